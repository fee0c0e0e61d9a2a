"""How do the figures of the SCORPIO paper look in the twin? `scorpio figures`.

Each figure is a list of cases and a way to draw them; cases that figures share are run once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scorpio.files import write_atomic
from scorpio.studies.compare import Progress
from scorpio.studies.paper.cases import (
    CHUNKED,
    PAPER_GAP_MS,
    PREFILL_FIRST,
    Case,
    CaseResult,
    azure_minutes,
    sharegpt,
)
from scorpio.twin.pool import run_jobs
from workloads.errors import UnknownName
from workloads.report.figure_style import Plot, stamped
from workloads.report.plots_paper import (
    CurveRow,
    GuardRow,
    LoadRow,
    OverheadRow,
    cumulative_plot,
    guards_plot,
    load_plot,
    overhead_plot,
)
from workloads.results.intervals import mean_interval

Results = Mapping[Case, CaseResult]
ENGINES = (PREFILL_FIRST, CHUNKED)
POLICIES = ("fcfs", "sjf", "mooncake", "scorpio-paper", "scorpio")
GUARDS = {"TTFT guard": (1, 0), "TPOT guard": (0, 1), "both": (1, 1)}
OVERHEAD_QPS = 14.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run. trace: of the cumulative figure; guard_qps: load of the ablation.
    quick: it shows only that all runs, and each picture says so."""

    requests: int
    seeds: tuple[int, ...]
    qps: Mapping[str, tuple[float, ...]]
    guard_qps: Mapping[str, float]
    trace: str
    minutes: float
    quick: bool = False


PUBLISHED_QPS = (10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
# The modern engine is not overloaded in the paper's range: two more loads, and the ablation there.
FULL = Scale(
    requests=512,
    seeds=(0, 1, 2),
    qps={PREFILL_FIRST: PUBLISHED_QPS, CHUNKED: (*PUBLISHED_QPS, 30.0, 40.0)},
    guard_qps={PREFILL_FIRST: 14.0, CHUNKED: 30.0},
    trace="azure-conv",
    minutes=20.0,
)
QUICK = Scale(  # shows that everything runs, and nothing else
    requests=24,
    seeds=(0,),
    qps={PREFILL_FIRST: (20.0,), CHUNKED: (20.0, 40.0)},
    guard_qps={PREFILL_FIRST: 20.0, CHUNKED: 20.0},
    trace="azure-conv-synth",
    minutes=0.1,
    quick=True,
)


@dataclass(frozen=True, slots=True)
class _Figure:
    """cases: what must be run; draw: rows for JSON and the plot, from the results."""

    question: str
    cases: Callable[[Scale, float], list[Case]]
    draw: Callable[[Sequence[Case], Results], tuple[Sequence[Any], Plot]]


def figure_names() -> tuple[str, ...]:
    """What `scorpio figures` can draw."""
    return tuple(_FIGURES)


def figure_cases(name: str, scale: Scale, gap_ms: float) -> list[Case]:
    """The runs of one figure."""
    return _FIGURES[name].cases(scale, gap_ms)


def drawn(name: str, cases: Sequence[Case], results: Results) -> Sequence[Any]:
    """The rows of one figure: dataclasses of `workloads.report.plots_paper`."""
    rows, _ = _FIGURES[name].draw(cases, results)
    return rows


def check_names(names: Sequence[str]) -> None:
    """Raises UnknownName for the first that is no figure."""
    for name in names:
        if name not in _FIGURES:
            raise UnknownName("figure", name, _FIGURES)


def run_figures(
    names: Sequence[str],
    out_dir: Path,
    scale: Scale,
    gap_ms: float = PAPER_GAP_MS,
    command: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Draw the named figures: NAME.png and NAME.json in `out_dir`; returns the rows by name.

    Raises:
        UnknownName: no such figure; nothing has been written.
        MissingTraceError: the Azure trace is not on this machine. JobFailed: a run died.
    """
    check_names(names)
    wanted = {name: _FIGURES[name].cases(scale, gap_ms) for name in names}
    cases = list(dict.fromkeys(case for of_figure in wanted.values() for case in of_figure))
    finished = 0

    def ended(number: int, _result: CaseResult) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, len(cases), cases[number].label)

    results = dict(zip(cases, run_jobs(cases, workers, ended), strict=True))
    rows_by_name: dict[str, list[dict[str, Any]]] = {}
    for name, of_figure in wanted.items():
        with stamped("quick" if scale.quick else ""):
            rows, plot = _FIGURES[name].draw(of_figure, results)
        rows_by_name[name] = [asdict(row) for row in rows]
        content = {
            "schema": 1,
            "figure": name,
            "question": _FIGURES[name].question,
            "command": command,
            "requests": scale.requests,
            "seeds": scale.seeds,
            "quick": scale.quick,
            "prefill_first_gap_ms": gap_ms,
            "rows": rows_by_name[name],
        }
        write_atomic(out_dir / f"{name}.json", json.dumps(content, indent=1) + "\n")
        write_atomic(out_dir / f"{name}.png", plot.png)
    return rows_by_name


# -- goodput and adherence against load ---------------------------------------------------------


def _load_cases(scale: Scale, gap_ms: float) -> list[Case]:
    return [
        Case(engine, policy, sharegpt(qps, seed, scale.requests), gap_ms=gap_ms)
        for engine in ENGINES
        for qps in scale.qps[engine]
        for policy in POLICIES
        for seed in scale.seeds
    ]


def _load_draw(cases: Sequence[Case], results: Results) -> tuple[Sequence[LoadRow], Plot]:
    rows = [
        LoadRow(
            engine=first.engine,
            policy=first.policy,
            qps=first.qps,
            adherence=mean_interval([r.good for r in runs]),
            goodput_rps=_mean(r.goodput_rps for r in runs),
            run_goodput_rps=_mean(r.run_goodput_rps for r in runs),
            rejected_share=_mean(r.rejected / len(r.good) for r in runs),
        )
        for first, runs in _by_seed(cases, results)
    ]
    return rows, load_plot(rows)


# -- good requests over 20 minutes of Azure -----------------------------------------------------


def _cumulative_cases(scale: Scale, gap_ms: float) -> list[Case]:
    load = azure_minutes(scale.trace, scale.minutes)
    return [Case(e, policy, load, gap_ms=gap_ms) for e in ENGINES for policy in POLICIES]


def _cumulative_draw(cases: Sequence[Case], results: Results) -> tuple[Sequence[CurveRow], Plot]:
    arrivals_s = [request.send_s for request in cases[0].load.requests()]
    rows = []
    for case in cases:
        ends_s = results[case].good_ends_s
        every = max(1, len(ends_s) // 200)  # enough for a curve
        rows.append(
            CurveRow(
                engine=case.engine,
                policy=case.policy,
                sent=len(arrivals_s),
                good=len(ends_s),
                t_s=tuple(round(t, 1) for t in ends_s[::every]),
                count=tuple(range(1, len(ends_s) + 1, every)),
            )
        )
    return rows, cumulative_plot(rows, arrivals_s)


# -- each guard on its own -----------------------------------------------------------------------


def _guard_cases(scale: Scale, gap_ms: float) -> list[Case]:
    cases = []
    for engine in ENGINES:
        for seed in scale.seeds:
            load = sharegpt(scale.guard_qps[engine], seed, scale.requests)
            cases.append(Case(engine, "fcfs", load, gap_ms=gap_ms))
            cases += [
                Case(engine, "scorpio-paper", load, guards, gap_ms) for guards in GUARDS.values()
            ]
    return cases


def _guard_draw(cases: Sequence[Case], results: Results) -> tuple[Sequence[GuardRow], Plot]:
    names = {guards: name for name, guards in GUARDS.items()}
    rows = [
        GuardRow(
            engine=first.engine,
            guards="stock vLLM" if first.policy == "fcfs" else names[first.guards],
            qps=first.qps,
            adherence=mean_interval([r.good for r in runs]),
            goodput_rps=_mean(r.goodput_rps for r in runs),
            run_goodput_rps=_mean(r.run_goodput_rps for r in runs),
        )
        for first, runs in _by_seed(cases, results)
    ]
    return rows, guards_plot(rows)


# -- what scheduling costs -----------------------------------------------------------------------


def _overhead_cases(scale: Scale, gap_ms: float) -> list[Case]:
    qps = OVERHEAD_QPS if OVERHEAD_QPS in scale.qps[CHUNKED] else scale.qps[CHUNKED][0]
    return [
        Case(engine, policy, sharegpt(qps, seed, scale.requests), gap_ms=gap_ms)
        for engine in ENGINES
        for policy in POLICIES
        for seed in scale.seeds
    ]


def _overhead_draw(cases: Sequence[Case], results: Results) -> tuple[Sequence[OverheadRow], Plot]:
    rows = [
        OverheadRow(
            engine=first.engine,
            policy=first.policy,
            plan_us=_mean(r.plan_s / r.steps for r in runs) * 1e6,
            scheduler_us=_mean(r.scheduler_s / r.steps for r in runs) * 1e6,
            plan_share=_mean(r.plan_s / r.run_s for r in runs),
            scheduler_share=_mean(r.scheduler_s / r.run_s for r in runs),
        )
        for first, runs in _by_seed(cases, results)
    ]
    return rows, overhead_plot(rows)


_FIGURES = {
    "load": _Figure("Which policy keeps promises as load grows?", _load_cases, _load_draw),
    "cumulative": _Figure("And over twenty minutes of Azure?", _cumulative_cases, _cumulative_draw),
    "guards": _Figure("What does each guard do alone?", _guard_cases, _guard_draw),
    "overhead": _Figure("What does planning cost?", _overhead_cases, _overhead_draw),
}


def _by_seed(cases: Sequence[Case], results: Results) -> Iterator[tuple[Case, list[CaseResult]]]:
    """Cases that differ in their seed only, with their results, in order of appearance."""
    groups: dict[Case, list[CaseResult]] = {}
    for case in cases:
        key = replace(case, load=replace(case.load, seed=0))
        groups.setdefault(key, []).append(results[case])
    yield from groups.items()


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
