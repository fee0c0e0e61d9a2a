"""Rules of a line or two: deficits, what planning may cost, what those that join are told."""

from __future__ import annotations

import math

import pytest

from scorpio.core.lora import AdapterPlaces
from scorpio.core.plan import Forecast
from scorpio.core.policies.scorpio.deficit import SHARE, Deficit
from scorpio.core.policies.scorpio.forecasts import forecasts
from scorpio.core.policies.scorpio.plan_budget import within
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch


def view(name: str, arrival_s: float = 0.0, adapter: int = 0) -> RequestView:
    return RequestView(name, 1, arrival_s, 50, 8, Slo(), adapter=adapter)


def test_an_eighth_of_the_prefill_time_is_owed() -> None:
    assert SHARE == 0.125
    overdue = Deficit()
    overdue.book(0.8, 0.0, True, 0.25)
    assert overdue.credit_s == pytest.approx(0.1)
    pays = [overdue.pay]
    overdue.book(0.8, 0.3, True, 0.25)  # theirs, more than they had
    assert overdue.credit_s == pytest.approx(-0.1)
    assert [*pays, overdue.pay] == [True, False]
    for _ in range(9):
        overdue.book(8.0, 0.0, True, 0.25)
    assert overdue.credit_s == 0.25  # no more than a step is saved up
    for _ in range(9):
        overdue.book(8.0, 8.0, True, 0.25)
    assert overdue.credit_s == -0.25  # or held against them
    overdue.book(8.0, 0.0, False, 0.25)
    assert overdue.credit_s == 0.0


@pytest.mark.parametrize(
    ("step_s", "count"), [(0.0, 64), (0.01, 64), (0.02, 64), (0.03, 96), (0.2, 640)]
)
def test_a_plan_looks_at_more_where_steps_are_long(step_s: float, count: int) -> None:
    assert within(64, step_s) == count


def test_a_plan_for_an_endless_step_ends() -> None:
    assert within(2, math.inf) == 2_000_000


def test_one_that_joins_is_told_when_its_prompt_is_done() -> None:
    joining = [view("a", 9.0), view("b", 9.5)]
    assert forecasts(joining, 10.0, 0.05, {}) == [
        Forecast("a", 1.0, 0.05),
        Forecast("b", 0.5, 0.05),
    ]
    assert forecasts([view("c", 11.0)], 10.0, 0.05, {}) == [Forecast("c", 0.0, 0.05)]
    assert forecasts([], 10.0, 0.05, {"a": 1.0}) == []


def test_the_last_one_is_done_later_when_its_prompt_does_not_fit() -> None:
    joining = [view("a", 9.0), view("b", 9.5)]
    told = forecasts(joining, 10.0, 0.05, {joining[-1].request_id: 0.25})
    assert told == [Forecast("a", 1.0, 0.05), Forecast("b", 0.75, 0.05)]


@pytest.mark.parametrize(
    ("most", "joining"), [(0, ["a", "b", "c", "d"]), (1, ["a", "d"]), (2, ["a", "b", "d"])]
)
def test_adapters_take_places_until_there_are_none(most: int, joining: list[str]) -> None:
    limits = EngineLimits(8, 256, 4096, 16, 4096, most)
    runs = Row(view("r", adapter=1), 0, False, 50, 50, 2)
    places = AdapterPlaces(Snapshot(running_batch([runs]), WaitingTable(), limits, 4096))
    asked = [view("a", adapter=1), view("b", adapter=2), view("c", adapter=3), view("d")]
    assert [v.request_id for v in places.of(asked)] == joining
