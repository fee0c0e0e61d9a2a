"""How many replicas? `scorpio plan`: what was asked, and the answer on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scorpio.cli.compare import progress_bar, twin_spec
from scorpio.cli.plan_table import answer_lines, answer_table, class_table, difference_lines
from scorpio.cli.wanted import Wanted
from workloads.errors import NoFleetFound
from workloads.results.replicas import FleetCurve, check_search
from workloads.slo_changes import SloChange, changed, parse_changes
from workloads.targets import Targets, parse_targets


def fleet_size_in_twin(
    wanted: Wanted,
    gpu: str | None,
    lengths: str,
    workers: int | None,
    target: str,
    max_replicas: int,
    draws: int,
    what: str | None,
) -> None:
    """Virtual time, one twin per replica. Raises UsageError and WorkloadError."""
    targets, changes = _asked(wanted, target, max_replicas, draws, what)
    load = twin_spec(wanted, gpu, lengths, workers)
    from scorpio.studies.fleet_plan import assumption_lines, assumptions, write_plan
    from scorpio.studies.fleet_size import FleetSearch, search_fleets

    spec = FleetSearch(load, targets, max_replicas, draws)
    spec.check()  # before the bar: a wrong name costs one line
    other: list[FleetCurve] = []
    with progress_bar("plan") as progress:
        plans = search_fleets(spec, progress)
        if changes:
            other = search_fleets(replace(spec, changes=changes), progress)
    write_plan(spec, plans, changes, other)
    _print(plans, max_replicas)
    for line in difference_lines(plans, other, changes):
        print(line)
    print("assumed:")
    for line in assumption_lines(assumptions(spec)):
        print(f"  {line}")
    print(wanted.out / "plan.json")
    if all(plan.needed is None for plan in plans):
        raise NoFleetFound(f"no fleet of up to {max_replicas} replicas surely keeps {targets}")


def _asked(
    wanted: Wanted, target: str, max_replicas: int, draws: int, what: str | None
) -> tuple[Targets, tuple[SloChange, ...]]:
    """What is to be reached, and what is to be changed; checked before vLLM is loaded."""
    targets, changes = parse_targets(target), parse_changes(what)
    check_search(max_replicas, draws, wanted.rate_scales)
    requests = wanted.loads()[0].requests()
    targets.check(requests)
    changed(requests, changes)
    return targets, changes


def _print(plans: Sequence[FleetCurve], limit: int) -> None:
    from rich.console import Console

    console = Console()
    console.print(answer_table(plans, limit))
    console.print(class_table(plans))
    for line in answer_lines(plans):
        print(line)
