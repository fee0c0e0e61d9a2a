"""Do the figures of the SCORPIO paper come out of the twin? Load and guards, on both engines.

The paper's engine computed prefills and decodes in separate steps; vLLM today mixes them. Both are
shown: what was published holds on the first and not on the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from scorpio.studies.paper.cases import CHUNKED, PAPER_GAP_MS, PREFILL_FIRST, Case, CaseResult
from scorpio.studies.paper.figures import FULL, QUICK, drawn, figure_cases
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import Cells, Found, Page, Rows, Study, shown, table
from workloads.report.plots_paper import GuardRow, LoadRow, guards_plot, load_plot
from workloads.results.intervals import Interval

FIGURES = ("load", "guards")
_FULL = replace(
    FULL,
    seeds=(0,),
    qps={PREFILL_FIRST: (10.0, 14.0, 18.0), CHUNKED: (14.0, 20.0, 30.0, 40.0)},
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the paper's figures."""

    case: Case

    @property
    def label(self) -> str:
        """All that the case says."""
        case = self.case
        return f"paper: {case.label}, guards {case.guards}, gap {case.gap_ms:g} ms"

    def run(self) -> dict[str, Any]:
        """A CaseResult, as JSON values."""
        return asdict(self.case.run())


def _cells(quick: bool) -> Cells:
    scale = QUICK if quick else _FULL
    cases = [case for name in FIGURES for case in figure_cases(name, scale, PAPER_GAP_MS)]
    return [Cell(case) for case in dict.fromkeys(cases)]


def _rows(found: Found) -> Rows:
    results: dict[Case, CaseResult] = {}
    for cell, made in found:
        assert isinstance(cell, Cell)
        results[cell.case] = CaseResult(**made)
    quick = {case.load.rows for case in results} == {f"0:{QUICK.requests}"}
    scale = QUICK if quick else _FULL
    rows: Rows = []
    for name in FIGURES:
        cases = figure_cases(name, scale, PAPER_GAP_MS)
        rows += [{"figure": name} | asdict(row) for row in drawn(name, cases, results)]
    return rows


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in values.items() if name != "figure"}
    return own | {"adherence": Interval(**own["adherence"])}


def _page(rows: Rows) -> Page:
    loads = [LoadRow(**_row(row)) for row in rows if row["figure"] == "load"]
    guards = [GuardRow(**_row(row)) for row in rows if row["figure"] == "guards"]
    figures = {"paper-load.png": load_plot(loads).png, "paper-guards.png": guards_plot(guards).png}
    by_load = table(
        ["engine", "requests/s", "policy", "adherence %", "goodput, requests/s"],
        [
            [r.engine, f"{r.qps:g}", f"`{r.policy}`", _percent(r.adherence), f"{r.goodput_rps:.2f}"]
            for r in loads
        ],
    )
    by_guard = table(
        ["engine", "guards of `scorpio-paper`", "requests/s", "adherence %", "goodput, requests/s"],
        [
            [r.engine, r.guards, f"{r.qps:g}", _percent(r.adherence), f"{r.goodput_rps:.2f}"]
            for r in guards
        ],
    )
    return Page(
        f"""\
ShareGPT-like lengths, Poisson arrivals, {FULL.requests} requests, six SLO classes, one seed; A100
model. `prefill-first` is the engine of the paper (prefills and decodes in separate steps, an
assumed gap of {PAPER_GAP_MS:g} ms between steps); `chunked` is stock vLLM today. Adherence is the
share of all requests sent that kept their SLOs.

![against load](paper-load.png)

{by_load}
![guards](paper-guards.png)

{by_guard}""",
        figures,
    )


def _percent(found: Interval) -> str:
    return shown([100.0 * value for value in (found.mean, found.low, found.high)])


STUDY = Study("paper", QUESTIONS["paper"], _cells, _rows, _page)
