"""How is a plan told on one screen? A row for each fleet that matters, one for each class, and
what a planner should not overlook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scorpio.cli.table import plain_table
from workloads.results.replicas import FleetCurve, FleetPoint, Verdict, by_need
from workloads.slo_changes import SloChange
from workloads.targets import ALL

if TYPE_CHECKING:
    from rich.table import Table

    from workloads.results.intervals import Interval


def answer_table(plans: Sequence[FleetCurve], limit: int) -> Table:
    """For each policy the answer, and one replica fewer."""
    headings = ("replicas", "good %", "95 %\ninterval", "req/s per\nreplica", "targets\nreached")
    table = plain_table(None, ["policy"], headings)
    for plan in by_need(plans):
        shown = plan.best
        count = (
            str(shown.replicas) if plan.needed is not None else f"> {limit}, best {shown.replicas}"
        )
        if plan.out_of_reach:
            count = f"no number, shown {shown.replicas}"
        table.add_row(plan.policy, count, *_cells(plan, shown))
        fewer = plan.at(shown.replicas - 1) if plan.needed is not None else None
        if fewer is not None:
            table.add_row("", str(fewer.replicas), *_cells(plan, fewer), style="dim")
    return table


def class_table(plans: Sequence[FleetCurve]) -> Table:
    """Each class under the answer of each policy."""
    headings = ("replicas", "target %", "good %", "95 %\ninterval")
    table = plain_table(None, ["class", "policy"], headings)
    ordered = by_need(plans)
    for name in dict.fromkeys(name for plan in ordered for name in plan.best.groups if name != ALL):
        for number, plan in enumerate(ordered):
            found = plan.best.groups.get(name)
            if found is None:
                continue
            target = plan.targets.shares.get(name)
            table.add_row(
                "" if number else name,
                plan.policy,
                str(plan.best.replicas),
                "–" if target is None else f"{100 * target:g}",
                *_share(found),
            )
    return table


def answer_lines(plans: Sequence[FleetCurve]) -> Iterator[str]:
    """Sentences: too few by the mean alone, classes that the whole hides, windows that differ."""
    for plan in by_need(plans):
        by_mean, needed = plan.by_mean, plan.needed
        if plan.out_of_reach:
            yield _out_of_reach(plan)
        if by_mean is not None and (needed is None or by_mean.replicas < needed.replicas):
            yield (
                f"{plan.policy}: with {_replicas(by_mean)} only the mean reaches the targets, the"
                " lower bound does not"
            )
        yield from _hidden(plan)
        yield from _windows(plan)


def difference_lines(
    plans: Sequence[FleetCurve], other: Sequence[FleetCurve], changes: Sequence[SloChange]
) -> Iterator[str]:
    """What the changed promises would cost or save, policy by policy."""
    what = ", ".join(map(str, changes))
    for plan, new in zip(plans, other, strict=False):
        text = f"{plan.policy}: {_answer(plan)} as it is, {_answer(new)} with {what}"
        if plan.needed is None:
            yield text
            continue
        if new.needed is not None:
            text += f" ({new.needed.replicas - plan.needed.replicas:+d})"
        same = new.at(plan.needed.replicas)
        if same is not None:
            before, after = (100 * p.attainment.mean for p in (plan.needed, same))
            text += f"; {_replicas(same)}: {before:.1f} % good become {after:.1f} %"
        yield text


def _out_of_reach(plan: FleetCurve) -> str:
    missed = [
        f"{100 * found.mean:.1f} % of {name} are good (95 % interval {_share(found)[1]}), the"
        f" target is {100 * plan.targets.shares[name]:g} %"
        for name in plan.out_of_reach
        for found in [plan.alone[name]]
    ]
    return (
        f"{plan.policy}: no number of replicas is enough: of requests that have a replica to"
        f" themselves {'; '.join(missed)}; more replicas were not tried"
    )


def _hidden(plan: FleetCurve) -> Iterator[str]:
    whole = plan.targets.shares.get(ALL)
    if whole is None or plan.needed is None:
        return
    for name, found in plan.needed.groups.items():
        if name not in plan.targets.shares and found.mean < whole:
            yield (
                f"{plan.policy}: {name} is at {100 * found.mean:.1f} %, below the"
                f" {100 * whole:g} % of all; --target {name}={100 * whole:g} asks for it"
            )


def _windows(plan: FleetCurve) -> Iterator[str]:
    for number, window in enumerate(plan.best.windows):
        if plan.needed is None or not window.surely_short(plan.targets):
            continue
        reached = [p for p in plan.points if p.windows[number].reached(plan.targets)]
        short = ", ".join(
            f"{name} {100 * window.groups[name][0]:.1f} %"
            for name in plan.targets.shares
            if name in window.groups
        )
        more = f"would need {_replicas(reached[0])}" if reached else "would need more than measured"
        yield (
            f"{plan.policy}: the answer depends on the window: requests {window.first} to"
            f" {window.last} alone ({short}) {more}"
        )


def _cells(plan: FleetCurve, point: FleetPoint) -> tuple[str, ...]:
    verdict = point.verdict(plan.targets)
    said = {Verdict.SURE: "yes", Verdict.MEAN: Verdict.MEAN.value, Verdict.SHORT: "no"}[verdict]
    return (*_share(point.attainment), f"{point.rps_per_replica:.2f}", said)


def _share(found: Interval) -> tuple[str, str]:
    return f"{100 * found.mean:.1f}", f"{100 * found.low:.1f}-{100 * found.high:.1f}"


def _answer(plan: FleetCurve) -> str:
    return "no fleet found" if plan.needed is None else _replicas(plan.needed)


def _replicas(point: FleetPoint) -> str:
    return f"{point.replicas} replica{'s' if point.replicas > 1 else ''}"
