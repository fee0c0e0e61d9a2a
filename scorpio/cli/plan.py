"""How many replicas? `scorpio plan`: what was asked, and the answer on one screen."""

from __future__ import annotations

from collections.abc import Sequence

from scorpio.cli.compare import progress_bar, twin_spec
from scorpio.cli.table import plain_table
from scorpio.cli.wanted import Wanted
from workloads.results.replicas import FleetCurve, FleetPoint, by_need, check_search


def fleet_size_in_twin(
    wanted: Wanted,
    gpu: str | None,
    lengths: str,
    workers: int | None,
    target: float,
    max_replicas: int,
) -> None:
    """Virtual time, one twin per replica. Raises UsageError and WorkloadError."""
    check_search(target, max_replicas, wanted.rate_scales)
    load = twin_spec(wanted, gpu, lengths, workers)
    from scorpio.studies.fleet_size import ROUTING, FleetSearch, search_fleets

    spec = FleetSearch(load, target, max_replicas)
    spec.check()  # before the bar: a wrong name costs one line
    with progress_bar("plan") as progress:
        plans = search_fleets(spec, progress)
    _print(plans, max_replicas)
    print(f"routing assumed: {ROUTING}; every replica simulated")
    print(wanted.out / "plan.json")


def _print(plans: Sequence[FleetCurve], limit: int) -> None:
    from rich.console import Console

    headings = ("replicas", "good %", "95 %\ninterval", "req/s per\nreplica", "one fewer\n%")
    table = plain_table(None, ["policy"], headings)
    for plan in by_need(plans):
        table.add_row(plan.policy, *_cells(plan, limit))
    Console().print(table)


def _cells(plan: FleetCurve, limit: int) -> list[str]:
    answer = plan.needed
    shown: FleetPoint = answer or max(plan.points, key=lambda p: p.attainment.mean)
    sure = shown.attainment
    fewer = next((p for p in plan.points if p.replicas == shown.replicas - 1), None)
    return [
        f"> {limit}" if answer is None else str(answer.replicas),
        f"{100 * sure.mean:.1f}",
        f"{100 * sure.low:.1f}-{100 * sure.high:.1f}",
        f"{shown.rps_per_replica:.2f}",
        "-" if fewer is None else f"{100 * fewer.attainment.mean:.1f}",
    ]
