"""Whom did a policy refuse, or let in, by mistake? `python -m scorpio.studies.mistakes`.

False admit: let in, and a promise was broken. False reject: refused, but it would have been served
as promised. That is judged by a counterfactual: the same load, seed and policy in the twin, but
this one request carries on_miss `wait`, so the policy may not refuse it and must find it a place.
One run for each of `--sample` refused requests of a class, drawn by the seed. What it does to the
others is counted too: good requests lost minus gained. A run that differs in one request goes its
own way from there on and gains or loses a handful of others by chance, so these counts scatter;
`--groups` runs that let in `--together` refused requests of any class at once say it better.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from scorpio.studies.window import engine, window_parser
from scorpio.twin.pool import Job, run_jobs
from scorpio.twin.run import TwinRun
from workloads.load import LoadKey
from workloads.results.records import Outcome, RequestRecord

REFUSED = 429
_HEAD = (
    "policy", "load", "class", "sent", "refused", "let in again", "would have met",
    "others lost for each", "false reject %", "false admit %",
)  # fmt: skip


class Verdict(NamedTuple):
    """What not refusing some requests would have led to: how many of them were good, and how many
    of the others were not any more (net)."""

    met: int
    others_lost: int


Verdicts = list[tuple[frozenset[int], Verdict]]  # who was let in, and what came of it


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


def table(job: Job, records: Sequence[RequestRecord], verdicts: Verdicts) -> list[str]:
    """Markdown rows of one run: each class, then all, judged by the groups alone."""
    classes: dict[str, list[RequestRecord]] = defaultdict(list)
    for record in records:
        classes[record.slo_class].append(record)
    rows = []
    for name, group in sorted(classes.items()):
        own = {record.index for record in group}
        rows.append(row(name, group, [v for who, v in verdicts if len(who) == 1 and who <= own]))
    groups = [(len(who), v) for who, v in verdicts if len(who) > 1]
    cells = row("all", records, [])
    cells[3] = f"{len(groups)} x {groups[0][0]}" if groups else "-"
    cells[4] = f"{np.mean([v.met for _, v in groups]):.1f}" if groups else "-"
    cells[5] = mean([v.others_lost / n for n, v in groups])
    each = [float(cells[6]) * int(cells[1]) for cells in rows]
    cells[6] = f"{sum(each) / len(records):.1f}"
    where = [f"`{job.policy}`", f"x{job.load.rate_scale:g}"]
    return ["| " + " | ".join([*where, *cells]) + " |" for cells in [*rows, cells]]


def cases(records: Sequence[RequestRecord], args: argparse.Namespace) -> list[frozenset[int]]:
    """Whom to let in, run by run: samples of every class one by one, then groups."""
    refused = refused_by_class(records)
    ones = [
        frozenset({index})
        for mine in refused.values()
        for index in sampled(mine, args.sample, args.seed)
    ]
    everyone = sorted(index for mine in refused.values() for index in mine)
    groups = [
        frozenset(sampled(everyone, args.together, args.seed + 1 + number))
        for number in range(args.groups)
    ]
    return [*ones, *(who for who in dict.fromkeys(groups) if len(who) > 1)]


def main() -> None:
    """Print one markdown table."""
    parser = window_parser(__doc__, "1.2,2.4")
    parser.add_argument("--policy", default="scorpio,scorpio-paper,mooncake")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=8, help="refused requests per class")
    parser.add_argument("--groups", type=int, default=8, help="runs that let in several at once")
    parser.add_argument("--together", type=int, default=20, help="how many, in each of those runs")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    config = engine(args.gpu)
    base = [
        Job(config, LoadKey(args.trace, args.rows, args.mix, scale, args.seed), policy)
        for scale in args.rate_scale
        for policy in args.policy.split(",")
    ]
    runs: list[TwinRun] = run_jobs(base, args.workers)
    todo = [(number, who) for number, run in enumerate(runs) for who in cases(run.records, args)]
    jobs = [replace(base[n], config=replace(config, never_refuse=who)) for n, who in todo]
    verdicts: dict[int, Verdicts] = defaultdict(list)
    for (number, who), run in zip(todo, run_jobs(jobs, args.workers), strict=True):
        verdicts[number].append((who, verdict(who, runs[number].records, run.records)))
    print("| " + " | ".join(_HEAD) + " |")
    print("|" + "---|" * len(_HEAD))
    for number, job in enumerate(base):
        print("\n".join(table(job, runs[number].records, verdicts[number])))


if __name__ == "__main__":
    main()
