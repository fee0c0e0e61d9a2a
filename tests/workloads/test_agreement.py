"""Is it seen when a twin is off, or puts the policies in another order?"""

from __future__ import annotations

import pytest

from workloads.results.aggregate import LoadPoint, Scenario
from workloads.results.agreement import agreement
from workloads.results.intervals import Interval


def _points(engine: str, **shares: float | None) -> list[LoadPoint]:
    def interval(share: float | None) -> Interval | None:
        return None if share is None else Interval(share, share, share, 1, 10)

    return [
        LoadPoint(
            scenario=Scenario(engine, "x", "t", "cpu"),
            policy=policy,
            rate_scale=1.0,
            offered_rps=1.0,
            runs=(),
            void_runs=0,
            attainment=interval(share),
            goodput_rps=None,
            rejected_share=None,
            gain=None,
        )
        for policy, share in shares.items()
    ]


def test_differences_and_order() -> None:
    live = _points("live", fcfs=0.50, sjf=0.60, scorpio=0.90)
    found = agreement(live, _points("twin", fcfs=0.52, sjf=0.55, scorpio=0.93))
    assert [round(row.error, 6) for row in found.rows] == [0.02, -0.05, 0.03]
    assert found.worst == pytest.approx(0.05)
    assert found.swapped == ()
    assert found.to_dict()["same_order"]


def test_a_swapped_pair_is_named_and_a_tie_is_none() -> None:
    live = _points("live", fcfs=0.50, sjf=0.60, scorpio=0.60)
    found = agreement(live, _points("twin", fcfs=0.58, sjf=0.57, scorpio=0.93))
    assert found.swapped == ((1.0, "sjf", "fcfs"),)


def test_void_runs_take_no_part() -> None:
    found = agreement(_points("live", fcfs=None, sjf=0.6), _points("twin", fcfs=0.1, sjf=0.6))
    assert [row.policy for row in found.rows] == ["sjf"]
    with pytest.raises(ValueError, match="no valid run"):
        agreement(_points("live", fcfs=None), _points("twin", fcfs=0.1))
