"""How many replicas? `scorpio plan`: what was asked, and the answer on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scorpio.cli.compare import progress_bar, twin_spec
from scorpio.cli.plan_table import answer_lines, answer_table, class_table, difference_lines
from scorpio.cli.twin_options import BY_DEFAULT, TwinOptions
from scorpio.cli.wanted import Wanted
from workloads.errors import NoFleetFound
from workloads.results.replicas import FleetCurve, check_search
from workloads.slo_changes import SloChange, changed, parse_changes
from workloads.targets import Targets, parse_targets


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of the question: --target, --max-replicas, --draws, --what."""

    target: str
    max_replicas: int
    draws: int
    what: str | None


def fleet_size_in_twin(
    wanted: Wanted,
    gpu: str | None,
    lengths: str,
    workers: int | None,
    asked: Asked,
    options: TwinOptions = BY_DEFAULT,
) -> None:
    """Virtual time, one twin per replica. Raises UsageError and WorkloadError."""
    targets, changes = _parsed(wanted, asked)
    load = twin_spec(wanted, gpu, lengths, workers, options)
    from scorpio.studies.fleet_plan import assumption_lines, assumptions, write_plan
    from scorpio.studies.fleet_size import FleetSearch, search_fleets

    spec = FleetSearch(load, targets, asked.max_replicas, asked.draws)
    spec.check()  # before the bar: a wrong name costs one line
    other: list[FleetCurve] = []
    with progress_bar("plan") as progress:
        plans = search_fleets(spec, progress)
        if changes:
            other = search_fleets(replace(spec, changes=changes), progress)
    write_plan(spec, plans, changes, other)
    _print(plans, asked.max_replicas)
    for line in difference_lines(plans, other, changes):
        print(line)
    print("assumed:")
    for line in assumption_lines(assumptions(spec)):
        print(f"  {line}")
    print(wanted.out / "plan.json")
    if all(plan.out_of_reach for plan in plans):
        raise NoFleetFound(f"no number of replicas keeps {targets}: not even with idle ones")
    if all(plan.needed is None for plan in plans):
        raise NoFleetFound(
            f"no fleet of up to {asked.max_replicas} replicas surely keeps {targets}"
        )


def _parsed(wanted: Wanted, asked: Asked) -> tuple[Targets, tuple[SloChange, ...]]:
    """What is to be reached, and what is to be changed; checked before vLLM is loaded."""
    targets, changes = parse_targets(asked.target), parse_changes(asked.what)
    check_search(asked.max_replicas, asked.draws, wanted.rate_scales)
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
