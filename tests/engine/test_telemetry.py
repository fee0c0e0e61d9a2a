"""Does the status tell how requests of each class ended, and what the present policy costs?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import Forecast, Rejection, RejectReason, StepPlan
from scorpio.engine.record.telemetry import Telemetry
from scorpio.engine.virtual.requests import abort
from tests.engine.driver import Engine, Scripted

CLASSES = {"chat": {"ttft_ms": 100, "tpot_ms": 30, "e2el_ms": 1000}, "batch": {}}


def status_of(directory: Path) -> dict[str, Any]:
    status = channel.read_status(directory)
    assert status is not None
    return status


def test_outcomes_by_class(tmp_path: Path) -> None:
    """Steps of 20 ms keep all promises of `chat`, steps of 50 ms break its TPOT."""
    settings = {"policy": "fcfs", "run_dir": str(tmp_path), "classes": CLASSES}
    engine = Engine(scorpio=settings)
    for name, seconds in (("kept", 0.02), ("slow", 0.05)):
        engine.add(name, output=5, slo_class="chat")
        while engine.scheduler.has_requests():
            engine.step(seconds)
    engine.add("late", output=1, slo_class="chat")  # one token: no TPOT to break
    engine.step(0.35)
    engine.add("very late", output=50, slo_class="chat")
    while engine.scheduler.has_requests():
        engine.step(0.025)
    engine.add("unnamed", output=2)
    engine.drain()
    engine.add("leaver", output=5, slo_class="batch")
    engine.step()
    abort(engine.scheduler, "leaver")
    policy = Scripted(StepPlan(reject=(Rejection("refused", RejectReason.QUEUE_FULL),)))
    engine.scorpio.use_policy(policy)
    engine.add("refused", slo_class="batch")
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    status = status_of(tmp_path)
    assert status["finished_by_state"] == {"finished": 5, "rejected": 1, "aborted": 1}
    chat, batch = status["by_class"]["chat"], status["by_class"]["batch"]
    assert chat["outcomes"] == {"finished": 4, "rejected": 0, "aborted": 0, "failed": 0}
    assert chat["violations"] == {"ttft": 1, "tpot": 1, "e2e": 1}
    bounds = (*channel.SLACK_BOUNDS_S, float("inf"))
    slack = {b: n for b, n in zip(bounds, chat["ttft_slack"], strict=True) if n}
    assert slack == {-0.1: 1, 0.1: 3}  # 0.25 s late; 80, 50 and 75 ms to spare
    assert batch["outcomes"] == {"finished": 0, "rejected": 1, "aborted": 1, "failed": 0}
    assert batch["rejections"] == {"queue_full": 1}
    assert batch["ttft_slack"] == []
    assert status["by_class"]["none"]["outcomes"]["finished"] == 1


def test_requests_without_a_class_count_for_the_default_class(tmp_path: Path) -> None:
    settings = {"policy": "fcfs", "run_dir": str(tmp_path), "classes": CLASSES}
    engine = Engine(scorpio=settings | {"default_class": "chat"})
    engine.add("a")
    engine.drain()
    assert list(status_of(tmp_path)["by_class"]) == ["chat"]


def test_a_switch_starts_the_windows_over(tmp_path: Path) -> None:
    step = StepModel(0.01, 0.0, 0.0, 64.0, 0.0, 0.0, 0.0)
    profile = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "tests")
    told = {"policy": "scorpio", "run_dir": str(tmp_path), "latency": profile.to_dict()}
    engine = Engine(scorpio=told)
    for _ in range(100):
        engine.scorpio.telemetry.planned(100.0)  # a policy that thinks for 100 s
    engine.add("a", output=5)
    engine.step(0.02)
    engine.step(0.02)
    engine.drain()
    before = status_of(tmp_path)
    assert before["schedule_us"]["p50"] == 1e8
    assert before["step_error"]["p99"] == pytest.approx(0.5, rel=0.01)  # 10 ms said, 20 ms taken
    channel.write_control(tmp_path, "scorpio-paper")
    engine.add("b", output=2)
    engine.step(0.01)
    engine.drain()
    after = status_of(tmp_path)
    assert after["policy"] == "scorpio-paper"
    assert 0.0 < after["schedule_us"]["p50"] < 1e8
    assert after["step_error"]["p99"] == pytest.approx(0.0, abs=1e-6)


def test_an_idle_engine_follows_with_its_next_request(tmp_path: Path) -> None:
    """However short ago it looked: that request is already decided by the new policy."""
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    for policy in ("scorpio-paper", "fcfs", "scorpio"):
        channel.write_control(tmp_path, policy)
        engine.add(policy, output=1)
        engine.step(0.0)
        assert status_of(tmp_path)["policy"] == policy


def test_values_beyond_the_window_are_forgotten() -> None:
    telemetry = Telemetry(None, "none", lambda: 0.0)
    for seconds in (1.0, *(0.001,) * 1024):
        telemetry.planned(seconds)
    assert telemetry.last_plan_s == 0.001
    assert telemetry._plan_us.quantiles(1) == {"p50": 1000.0, "p99": 1000.0}


def test_forecasts_are_held_against_what_came(tmp_path: Path) -> None:
    """Steps of 20 ms: the first token after 20 ms, then one in each."""
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path), "classes": CLASSES})
    told = (Forecast("a", 0.025, 0.016), Forecast("b", 0.010, 0.050), Forecast("unknown", 1.0, 1.0))
    for stock in (True, False):  # told with a stock step as well
        policy = Scripted(StepPlan(stock=stock, forecasts=told))
        engine.scorpio.use_policy(policy)
        for name in "ab":
            engine.add(name, output=3, slo_class="chat")
        engine.add("c", output=3)
        engine.step(0.02)
        policy.answer = StepPlan()
        while engine.scheduler.has_requests():
            engine.step(0.02)
        assert engine.scorpio.telemetry.fallbacks == 0
    status = status_of(tmp_path)
    chat = status["by_class"]["chat"]
    assert chat["forecasts"] == {"ttft": 4, "tpot": 4}
    assert chat["forecasts_exceeded"] == {"ttft": 2, "tpot": 2}
    assert status["by_class"]["none"]["forecasts"] == {"ttft": 0, "tpot": 0}  # c was told nothing
    # |25 - 20| / 20 and |10 - 20| / 20 of TTFT, |16 - 20| / 20 and |50 - 20| / 20 of TPOT
    assert status["forecast_error"]["ttft"] == pytest.approx({"p50": 0.375, "p99": 0.5}, abs=0.01)
    assert status["forecast_error"]["tpot"]["p50"] == pytest.approx(0.85, abs=0.01)
    engine.scorpio.use_policy(policy)
    assert engine.scorpio.telemetry.outcomes.state()["forecast_error"] == {
        "ttft": {"p50": 0.0, "p99": 0.0},
        "tpot": {"p50": 0.0, "p99": 0.0},
    }


def test_the_latest_forecast_counts_and_a_mad_one_does_not(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    policy = Scripted(StepPlan(forecasts=(Forecast("a", 9.0, float("nan")),), admit=("busy",)))
    engine.scorpio.use_policy(policy)
    engine.add("busy", output=1)
    engine.add("a", output=2)
    engine.step(0.02)
    policy.answer = StepPlan(forecasts=(Forecast("a", 0.005, float("nan")),))
    engine.step(0.02)
    engine.drain()
    none = status_of(tmp_path)["by_class"]["none"]
    assert (none["forecasts"], none["forecasts_exceeded"]["ttft"]) == ({"ttft": 1, "tpot": 0}, 1)
