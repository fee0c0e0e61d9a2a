"""Which requests did a policy refuse, or let in, by mistake? Each has a run without it.

False admit: let in, and a promise was broken. False reject: refused, but it would have been served
as promised: the same load, seed and policy in the twin, but this one request carries on_miss
`wait`, so the policy may not refuse it and must find it a place. What it does to the others is
counted too: good requests lost minus gained. A run that differs in one request goes its own way
from there on and gains or loses a handful of others by chance, so these counts scatter; runs that
let in several at once say it better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import Cells, Found, Page, Rows, Study, engine, reference, table
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.results.records import Outcome, RequestRecord

REFUSED = 429
POLICIES = ("scorpio",)
LOADS = (1.6,)
SAMPLE, TOGETHER = 3, 20
_HEAD = (
    "policy", "load", "class", "sent", "refused", "let in again", "would have met",
    "others lost for each", "false reject %", "false admit %",
)  # fmt: skip


class Verdict(NamedTuple):
    """What not refusing some requests would have led to: how many of them were good, and how many
    of the others were not any more (net)."""

    met: int
    others_lost: int


Verdicts = list[tuple[frozenset[int], Verdict]]  # which were let in, and what came of it


def refused_by_class(records: Iterable[RequestRecord]) -> dict[str, list[int]]:
    """Indices of the requests that the policy refused, in order of arrival."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in records:
        if record.http_status == REFUSED:
            found[record.slo_class].append(record.index)
    return found


def sampled(indices: Sequence[int], most: int, seed: int) -> list[int]:
    """At most so many of them; the same seed gives the same."""
    if len(indices) <= most:
        return list(indices)
    return sorted(np.random.default_rng(seed).choice(indices, most, replace=False).tolist())


def verdict(
    let_in: frozenset[int], before: Sequence[RequestRecord], after: Sequence[RequestRecord]
) -> Verdict:
    """Two runs of one load: all refusals, and the same without those of `let_in`."""
    good = {record.index for record in before if record.good}
    now_good = {record.index for record in after if record.good}
    assert {r.index for r in before} == {r.index for r in after}
    assert not good & let_in
    return Verdict(len(now_good & let_in), len(good) - len(now_good - let_in))


def row(name: str, group: Sequence[RequestRecord], verdicts: Sequence[Verdict]) -> list[str]:
    """Cells of one class from `class` on; verdicts are of single requests. Shares are of all that
    were sent, in %; false rejects are those refused times the share of the sample that met."""
    refused = sum(record.http_status == REFUSED for record in group)
    late = sum(r.outcome is not Outcome.REJECTED and not r.good for r in group)
    met = sum(v.met for v in verdicts)
    false_rejects = refused * met / len(verdicts) if verdicts else 0.0
    return [
        name,
        *map(str, (len(group), refused, len(verdicts), met)),
        mean([v.others_lost for v in verdicts]),
        f"{100.0 * false_rejects / len(group):.1f}",
        f"{100.0 * late / len(group):.1f}",
    ]


def mean(values: Sequence[float]) -> str:
    """With a 95 % interval (normal)."""
    if len(values) < 2:
        return "".join(f"{value:+.2f}" for value in values) or "-"
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):+.2f} ± {half:.2f}"


def cases(records: Sequence[RequestRecord], sample: int, seed: int) -> list[frozenset[int]]:
    """Which refused requests to let in, run by run: samples of every class one by one, then
    groups."""
    refused = refused_by_class(records)
    ones = [
        frozenset({index}) for mine in refused.values() for index in sampled(mine, sample, seed)
    ]
    everyone = sorted(index for mine in refused.values() for index in mine)
    groups = [frozenset(sampled(everyone, TOGETHER, seed + 1 + number)) for number in range(sample)]
    return [*ones, *(which for which in dict.fromkeys(groups) if len(which) > 1)]


@dataclass(frozen=True, slots=True)
class Judged:
    """One policy on one load, and as many counterfactual runs as its refusals give."""

    policy: str
    load: LoadKey
    sample: int

    @property
    def label(self) -> str:
        """Policy and load."""
        return f"mistakes of {self.policy} on {self.load.label}, sample {self.sample}"

    def run(self) -> list[list[str]]:
        """Lines of the table: each class, then all."""
        config, requests = engine(), self.load.requests()
        before = run_twin(config, requests, self.policy, self.load.seed).records
        verdicts: Verdicts = []
        for let_in in cases(before, self.sample, self.load.seed):
            other = replace(config, never_refuse=let_in)
            after = run_twin(other, requests, self.policy, self.load.seed).records
            verdicts.append((let_in, verdict(let_in, before, after)))
        return lines(before, verdicts)


def lines(records: Sequence[RequestRecord], verdicts: Verdicts) -> list[list[str]]:
    """Cells of one run: each class, then all, judged by the groups alone."""
    classes: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in records:
        classes[record.slo_class].append(record)
    found = []
    for name, group in sorted(classes.items()):
        own = {record.index for record in group}
        found.append(row(name, group, [v for let, v in verdicts if len(let) == 1 and let <= own]))
    groups = [(len(let_in), v) for let_in, v in verdicts if len(let_in) > 1]
    cells = row("all", records, [])
    cells[3] = f"{len(groups)} x {groups[0][0]}" if groups else "-"
    cells[4] = f"{np.mean([v.met for _, v in groups]):.1f}" if groups else "-"
    cells[5] = mean([v.others_lost / n for n, v in groups])
    each = [float(line[6]) * int(line[1]) for line in found]
    cells[6] = f"{sum(each) / len(records):.1f}"
    return [*found, cells]


def _cells(quick: bool) -> Cells:
    policies, sample = (("scorpio",), 1) if quick else (POLICIES, SAMPLE)
    return [
        Judged(policy, reference(scale, 0, quick), sample) for scale in LOADS for policy in policies
    ]


def _rows(found: Found) -> Rows:
    rows: Rows = []
    for judged, made in found:
        assert isinstance(judged, Judged)
        where = {"policy": judged.policy, "load": judged.load.rate_scale}
        rows += [where | {"cells": cells} for cells in made]
    return rows


def _page(rows: Rows) -> Page:
    body = [[f"`{row['policy']}`", f"x{row['load']:g}", *row["cells"]] for row in rows]
    return Page(f"""\
False admit: let in, and a promise was broken. False reject: refused, but it would have been served
as promised. That is judged by a counterfactual: the same load, seed and policy, but this one
request may not be refused. Up to {SAMPLE} refused requests of each class are tried alone (columns
"let in" and "would have met"), and {SAMPLE} groups of {TOGETHER} together in the lines "all". What
it does to the others is counted as well: good requests lost minus gained, for each that was let
in. A run that differs in one request goes its own way from there on, so these counts scatter.
Reference window, seed 0, A100 model.

{table(_HEAD, body)}""")


STUDY = Study("mistakes", QUESTIONS["mistakes"], _cells, _rows, _page)
