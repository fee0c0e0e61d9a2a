"""Which time do requests live in? The serving clock alone, each rule with its number."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest

from scorpio.engine.scheduler import ScorpioScheduler
from scorpio.engine.view.serving_clock import MAX_TRANSIT_S, ServingClock
from scorpio.engine.virtual.build import EngineSpec, build_scheduler


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def clock(self) -> ServingClock:
        return ServingClock(lambda: self.at_s)


def after(steps: Callable[[Hand, ServingClock], object]) -> tuple[Hand, ServingClock]:
    hand = Hand()
    clock = hand.clock()
    steps(hand, clock)
    return hand, clock


def test_the_clocks_of_the_server_are_the_systems() -> None:
    """Arrival times come by the wall clock of another process; deadlines are monotonic."""
    scheduler = build_scheduler(EngineSpec(), ScorpioScheduler, {"policy": "fcfs"})
    assert isinstance(scheduler, ScorpioScheduler)
    before = time.monotonic(), time.time()
    told = scheduler.now_s(), scheduler.wall_s()
    later = time.monotonic(), time.time()
    assert before[0] <= told[0] <= later[0]
    assert before[1] <= told[1] <= later[1]


def test_it_runs_with_the_other_until_the_engine_stops() -> None:
    hand, clock = after(lambda h, c: None)
    assert clock.now_s() == 1000.0
    assert not clock.called(True, 0.1)
    hand.at_s += 5.0  # no longer than what one may hope for
    assert not clock.called(True, 0.1)
    hand.at_s += 10.1  # but twice as long and more
    assert clock.called(True, 0.1)
    assert clock.now_s() == pytest.approx(1005.0)
    hand.at_s += 1.0
    assert clock.now_s() == pytest.approx(1006.0)


@pytest.mark.parametrize(("longest_s", "stopped"), [(0.26, True), (0.28, True), (0.35, False)])
def test_a_stop_is_longer_than_twenty_of_the_longest_steps(longest_s: float, stopped: bool) -> None:
    hand, clock = after(lambda h, c: None)
    clock.called(True, longest_s)
    hand.at_s += 6.0
    assert clock.called(True, longest_s) is stopped


@pytest.mark.parametrize(("before", "now"), [(False, True), (True, False), (False, False)])
def test_an_engine_without_work_is_not_called_and_has_not_stopped(before: bool, now: bool) -> None:
    hand, clock = after(lambda h, c: None)
    clock.called(before, 0.1)
    hand.at_s += 100.0
    assert not clock.called(now, 0.1)
    assert clock.now_s() == 1100.0


def test_an_engine_that_always_takes_long_does_not_stop_each_time() -> None:
    hand, clock = after(lambda h, c: c.called(True, 0.0))
    stops = []
    for _ in range(3):
        hand.at_s += 8.0
        stops.append(clock.called(True, 0.0))
    assert stops == [True, False, False]
    # Its long steps are forgotten slowly: a hundredth with each call.
    for _ in range(150):
        hand.at_s += 0.01
        clock.called(True, 0.0)
    hand.at_s += 8.0
    assert clock.called(True, 0.0)


def test_the_first_call_ends_no_stop() -> None:
    hand, clock = after(lambda h, c: None)
    assert not clock.called(True, 0.0)
    assert clock.now_s() == hand.at_s


def test_a_pause_is_no_time_and_is_counted_once() -> None:
    hand, clock = after(lambda h, c: c.called(True, 0.1))
    clock.resume()  # of no pause
    assert clock.now_s() == 1000.0
    clock.pause()
    hand.at_s += 30.0
    clock.pause()  # twice
    assert clock.now_s() == 1000.0
    assert clock.called(True, 0.1)  # no step could be made: but the pause counts, not this
    hand.at_s += 10.0
    clock.resume()
    assert not clock.paused
    assert clock.now_s() == 1000.0
    hand.at_s += 2.0
    assert not clock.called(True, 0.1)
    assert clock.now_s() == 1002.0


@pytest.mark.parametrize(
    ("transit_s", "arrived_s"),
    [
        (0.0, 1000.0),
        (2.5, 997.5),
        (-3.0, 1000.0),
        (math.nan, 1000.0),
        (1e9, 1000.0 - MAX_TRANSIT_S),
    ],
)
def test_one_that_was_on_the_way_has_waited_since_it_was_sent(
    transit_s: float, arrived_s: float
) -> None:
    _, clock = after(lambda h, c: None)
    assert clock.arrival_s(transit_s) == arrived_s
    assert MAX_TRANSIT_S == 60.0


@pytest.mark.parametrize(
    ("transit_s", "waited_s"),
    [
        (4.0, 4.0),  # sent after the stop
        (5.0, 5.0),
        (10.0, 5.0),  # in the middle of it
        (30.0, 10.0),  # 5 s before it
    ],
)
def test_one_that_was_on_the_way_in_a_stop_has_not_waited_for_it(
    transit_s: float, waited_s: float
) -> None:
    hand, clock = after(lambda h, c: c.called(True, 0.1))
    hand.at_s += 20.0
    assert clock.called(True, 0.1)  # from 1000 to 1020
    hand.at_s += 5.0
    assert clock.now_s() == 1005.0
    assert clock.arrival_s(transit_s) == pytest.approx(1005.0 - waited_s)


@pytest.mark.parametrize(("transit_s", "waited_s"), [(5.0, 0.0), (12.0, 2.0)])
def test_one_that_comes_during_a_pause_has_waited_before_it(
    transit_s: float, waited_s: float
) -> None:
    hand, clock = after(lambda h, c: c.pause())
    hand.at_s += 10.0
    assert clock.arrival_s(transit_s) == 1000.0 - waited_s


def test_paused_is_said_between_pause_and_resume() -> None:
    clock, said = Hand().clock(), list[bool]()
    for act in (lambda: None, clock.pause, clock.resume):
        act()
        said.append(clock.paused)
    assert said == [False, True, False]
