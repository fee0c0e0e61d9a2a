"""Is the smallest sufficient fleet found, and is every request dealt to one replica?"""

from __future__ import annotations

import pytest

from workloads.report.plots_replicas import replicas_plot
from workloads.results.intervals import Interval
from workloads.results.replicas import (
    FleetCurve,
    FleetPoint,
    by_need,
    next_fleet,
    split_round_robin,
)


def searched(shares: list[float], target: float) -> tuple[dict[int, float], int | None]:
    """What is measured when `shares[n - 1]` is the attainment of n replicas; and the answer."""
    measured: dict[int, float] = {}
    while (fleet := next_fleet(measured, target, limit=len(shares))) is not None:
        assert fleet not in measured
        measured[fleet] = shares[fleet - 1]
    return measured, min((n for n, share in measured.items() if share >= target), default=None)


@pytest.mark.parametrize("answer", range(1, 21))
def test_search_finds_the_smallest_fleet_and_measures_its_neighbour(answer: int) -> None:
    shares = [0.5 if n < answer else 0.96 for n in range(1, 21)]
    measured, found = searched(shares, 0.95)
    assert found == answer
    assert answer == 1 or answer - 1 in measured
    assert len(measured) <= 9


def test_search_ends_at_the_limit() -> None:
    measured, found = searched([0.1] * 11, 0.95)
    assert found is None
    assert sorted(measured) == [1, 2, 4, 8, 11]


def test_every_request_goes_to_one_replica_in_turn() -> None:
    assert [list(part) for part in split_round_robin(7, 3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [list(part) for part in split_round_robin(1, 2)] == [[0], []]


def _plan(policy: str, *shares: float) -> FleetCurve:
    points = tuple(
        FleetPoint(n, 6.0 / n, Interval(share, share - 0.02, share + 0.02, 1, 100), 0.0)
        for n, share in enumerate(shares, start=1)
    )
    return FleetCurve(policy, points, 0.9)


def test_plans_are_ordered_by_need_and_drawn() -> None:
    plans = [_plan("fcfs", 0.1, 0.3), _plan("sjf", 0.1, 0.91), _plan("scorpio", 0.5, 0.95)]
    assert [plan.policy for plan in by_need(plans)] == ["scorpio", "sjf", "fcfs"]
    assert plans[0].needed is None
    assert plans[0].to_dict()["replicas"] is None
    assert plans[1].to_dict()["replicas"] == 2
    plot = replicas_plot(plans, 0.9, "a load")
    assert plot.name == "plan"
    assert plot.png.startswith(b"\x89PNG")
