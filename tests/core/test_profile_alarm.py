"""When is a latency profile not one of this engine, and when is the alarm over?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.profile_alarm import ProfileAlarm


def follow(alarm: ProfileAlarm, factor: float, steps: int) -> list[bool]:
    return [alarm.observe(0.1 * factor, 0.1) for _ in range(steps)]


def test_it_says_nothing_before_twenty_steps() -> None:
    alarm = ProfileAlarm()
    alarm._log = math.log(3.0)  # as far off as can be
    began = follow(alarm, 3.0, 21)
    assert began == [False] * 19 + [True, False]
    assert alarm.on
    assert alarm.episodes == 1


def test_the_factor_is_executed_over_predicted_time() -> None:
    alarm = ProfileAlarm()
    assert alarm.factor == 1.0
    alarm.observe(0.2, 0.1)
    assert alarm.factor == pytest.approx(2.0**0.05)
    follow(alarm, 2.0, 400)
    assert alarm.factor == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("factor", "on"), [(2.1, True), (1.9, False), (1 / 2.1, True), (0.6, False)]
)
def test_twice_as_slow_or_as_fast_is_too_far(factor: float, on: bool) -> None:
    alarm = ProfileAlarm()
    began = follow(alarm, factor, 400)
    assert alarm.on is on
    assert sum(began) == alarm.episodes == on


def test_it_lasts_until_the_profile_is_nearly_right_again() -> None:
    alarm = ProfileAlarm()
    follow(alarm, 2.5, 400)
    on = [alarm.on for factor in (1.7, 1.5) if follow(alarm, factor, 400)]
    assert on == [True, False]  # no episode ends in the middle of the scatter
    assert sum(follow(alarm, 2.5, 400)) == 1
    assert alarm.episodes == 2


@pytest.mark.parametrize(("executed_s", "predicted_s"),
                         [(0.0, 0.1), (0.1, 0.0), (math.nan, 0.1), (math.inf, 0.1), (0.1, math.inf),
                          (0.1, math.nan), (-0.1, 0.1)])  # fmt: skip
def test_what_cannot_be_compared_is_not(executed_s: float, predicted_s: float) -> None:
    alarm = ProfileAlarm()
    for _ in range(50):
        assert alarm.observe(executed_s, predicted_s) is False
    assert alarm.factor == 1.0
    follow(alarm, 2.5, 19)
    assert not alarm.on  # nor do such steps count


def test_one_stall_decides_nothing() -> None:
    alarm = ProfileAlarm()
    follow(alarm, 1.0, 50)
    follow(alarm, 1e6, 1)
    assert alarm.factor == pytest.approx(4.0**0.05)  # a step counts up to four times as usual
    follow(alarm, 1e-6, 1)
    assert alarm.factor == pytest.approx(1.0)
