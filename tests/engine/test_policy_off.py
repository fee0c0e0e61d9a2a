"""When is the policy off, and what does the engine do meanwhile? It serves as stock."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.engine.policy_off import LOOK_S, STEPS, TOLD, PolicyOff
from scorpio.settings import ScorpioSettings
from tests.engine.driver import STEP_S, Engine, Scripted, expected


def off_with(**settings: Any) -> PolicyOff:
    return PolicyOff(ScorpioSettings(**settings))


@pytest.mark.parametrize(
    ("share", "most", "opens"),
    [(0.04, 0.05, False), (0.06, 0.05, True), (0.06, 0.1, False), (0.9, 0.0, False)],
)
def test_planning_that_costs_too_much(share: float, most: float, opens: bool) -> None:
    off = off_with(most_overhead=most)
    for step in range(STEPS):
        assert off.why(step * STEP_S) == ""
        off.stepped(share * STEP_S, STEP_S, step * STEP_S)
    now_s = STEPS * STEP_S
    assert off.why(now_s) == (channel.OVERRUN if opens else "")
    assert off.state(now_s)["breaker_open"] is opens
    assert off.why(now_s + 60.0) == ""  # breaker_quiet_s later it is asked again


def test_one_slow_plan_is_no_overrun() -> None:
    off = off_with()
    for step in range(10 * STEPS):
        off.stepped(0.1 if step % STEPS == 0 else 1e-5, STEP_S, 0.0)  # a garbage collection
    assert off.why(0.0) == ""


@pytest.mark.parametrize(("wrong", "opens"), [(50, False), (51, True)])
def test_requests_forecast_to_be_on_time_that_come_far_too_late(wrong: int, opens: bool) -> None:
    off = off_with()
    for number in range(TOLD):
        off.forecast_came(0.4, 1.1 if number < wrong else 0.9, 0.5, 0.0)
    assert off.why(0.0) == (channel.FORECASTS if opens else "")
    assert off.state(0.0)["breakers_opened"] == {"errors": 0, "overrun": 0, "forecasts": int(opens)}


def test_what_has_no_slo_or_no_forecast_says_nothing_of_forecasts() -> None:
    off = off_with()
    for _ in range(2 * TOLD):
        off.forecast_came(1.0, 9.0, math.inf, 0.0)
        off.forecast_came(math.nan, 9.0, 0.5, 0.0)
    assert off.why(0.0) == ""


def test_no_client_turns_it_off_by_an_slo_that_none_can_keep() -> None:
    off = off_with()
    for _ in range(2 * TOLD):
        off.forecast_came(0.02, 5.0, 0.001, 0.0)
    assert off.why(0.0) == ""


def test_another_policy_is_judged_anew() -> None:
    off = off_with()
    for _ in range(STEPS - 1):
        off.stepped(STEP_S, STEP_S, 0.0)
    off.restart()
    off.stepped(STEP_S, STEP_S, 0.0)
    assert off.why(0.0) == ""


def test_an_engine_that_plans_too_long_goes_on_as_stock() -> None:
    engine = Engine(scorpio={"policy": "fcfs", "breaker_quiet_s": 1.0})
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.scorpio.cost_s = STEP_S / 2
    engine.add("a", output=2 * STEPS)
    for _ in range(STEPS + 2):
        engine.step()
    stock = engine.scorpio.telemetry.stock_steps
    engine.step()
    assert engine.scorpio.telemetry.stock_steps == stock + 1
    state = engine.scorpio._state()
    assert (state["policy_off"], state["breaker_opened"]) == ("overrun", 1)
    engine.scorpio.cost_s = 0.0
    engine.drain()
    assert engine.tokens("a") == expected(1, 2 * STEPS)
    assert engine.scorpio._state()["policy_off"] == ""
    assert engine.scorpio.telemetry.planned_steps > STEPS


@pytest.mark.parametrize("own_file", [False, True])
def test_a_file_turns_it_off_and_on(tmp_path: Path, own_file: bool) -> None:
    file = tmp_path / ("elsewhere" if own_file else channel.OFF)
    settings = {"policy": "fcfs", "run_dir": str(tmp_path)}
    engine = Engine(scorpio=settings | ({"off_file": str(file)} if own_file else {}))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=200)
    engine.add("b", output=200)

    def planned_in(steps: int) -> int:
        before = engine.scorpio.telemetry.planned_steps
        for _ in range(steps):
            engine.step()
        return engine.scorpio.telemetry.planned_steps - before

    look = round(LOOK_S / STEP_S) + 1  # steps until it has looked
    assert planned_in(10) == 10
    file.touch()
    planned_in(look)
    assert planned_in(10) == 0
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["policy_off"], status["breaker_open"]) == ("by_hand", False)
    file.unlink()
    planned_in(look)
    assert planned_in(10) == 10
    engine.drain()
    assert engine.tokens("a") == expected(1, 200)
    assert engine.tokens("b") == expected(2, 200)


def test_a_file_that_was_there_before_the_start_counts(tmp_path: Path) -> None:
    (tmp_path / channel.OFF).touch()
    engine = Engine(scorpio={"policy": "scorpio", "run_dir": str(tmp_path)})
    engine.add("a", output=5, slo_ttft_ms=1)
    engine.drain()
    assert engine.tokens("a") == expected(1, 5)  # nothing is refused
    assert engine.scorpio.telemetry.planned_steps == 0


def test_without_a_place_for_a_file_none_is_looked_for() -> None:
    off = off_with()
    assert not off.look(0.0, idle=True)
    assert off.why(0.0) == ""
