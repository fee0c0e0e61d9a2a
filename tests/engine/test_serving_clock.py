"""Time in which the engine is paused, asleep or stopped is not waiting (invariant 33)."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from vllm.v1.core.sched.interface import PauseState

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import FinalState
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import abort
from tests.engine.driver import Engine, Scripted

STEP = StepModel(0.010, 0.0, 0.0001, 0.0, 0.0, 0.0, 1e-7)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "test").to_dict()
SPEC = EngineSpec(pipeline_depth=1, max_num_seqs=2, max_model_len=16_384, num_blocks=4000)


def crowded(count: int = 12) -> Engine:
    """Two long answers run, and these wait with 10 s for their first token."""
    engine = Engine(SPEC, {"policy": "scorpio", "latency": PROFILE})
    for index in range(2):
        engine.add(f"busy{index}", output=100)
    for _ in range(3):
        engine.step(0.012)
    for index in range(count):
        engine.add(f"w{index}", prompt=100, slo_ttft_ms=10_000)
    engine.step(0.012)
    return engine


def refused(engine: Engine) -> int:
    return engine.scorpio.telemetry.outcomes.total(FinalState.REJECTED)


@pytest.mark.parametrize("mode", list(PauseState))
def test_a_pause_of_any_kind_moves_every_deadline(mode: PauseState) -> None:
    engine = crowded()
    if mode is not PauseState.UNPAUSED:  # else: the process was stopped, and no one told
        engine.scheduler.set_pause_state(mode)
    engine.scorpio.virtual_s += 90.0
    engine.scheduler.set_pause_state(PauseState.UNPAUSED)
    engine.drain()
    assert refused(engine) == 0
    assert all(len(engine.tokens(f"w{index}")) == 4 for index in range(12))
    assert engine.scorpio.telemetry.outcomes.violated.total() == 0


def test_a_stop_that_no_one_told_of_moves_every_deadline() -> None:
    engine = crowded()
    engine.scorpio.virtual_s += 90.0  # SIGSTOP, SIGCONT
    engine.drain()
    assert refused(engine) == 0


def test_a_long_step_is_no_stop() -> None:
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=30)
    for _ in range(10):
        engine.step(2.0)  # a very slow engine
    engine.step(20.0)
    assert engine.scorpio._clock.now_s() == engine.scorpio.virtual_s


@pytest.mark.parametrize("depth", [1, 2])
def test_an_engine_whose_first_steps_are_long_is_slow(depth: Literal[1, 2]) -> None:
    engine = Engine(EngineSpec(pipeline_depth=depth))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=30)
    for _ in range(10):
        engine.step(8.0)  # a large model on a CPU; not even vLLM's own speed is known before
    lost_s = engine.scorpio.virtual_s - engine.scorpio._clock.now_s()
    assert lost_s <= 8.0  # the first may have been a stop
    assert policy.samples[-1].duration_s == pytest.approx(8.0)


def test_an_arrival_time_that_is_no_number_is_now() -> None:
    engine = Engine(SPEC)
    engine.scorpio.virtual_s = 7.0
    request = engine.request("a")
    request.arrival_time = math.nan
    engine.scorpio.add_request(request)
    assert engine.scorpio._tracker.live["a"].view.arrival_s == 7.0
    engine.drain()


@pytest.mark.parametrize("mode", [PauseState.PAUSED_NEW, PauseState.PAUSED_ALL])
def test_an_abort_during_a_pause_refuses_no_one(mode: PauseState) -> None:
    engine = crowded()
    engine.scheduler.set_pause_state(mode)
    engine.scorpio.virtual_s += 90.0
    abort(engine.scheduler, "w0")
    assert engine.scheduler.has_requests()  # so that EngineCore steps
    for _ in range(3):
        engine.step(0.012)
    engine.scheduler.set_pause_state(PauseState.UNPAUSED)
    engine.drain()
    assert refused(engine) == 0
    engine.assert_drained()


@pytest.mark.parametrize("stop", ["pause", "stop"])
def test_one_that_arrives_meanwhile_has_waited_for_what_is_left(stop: str) -> None:
    engine = crowded(1)
    scorpio = engine.scorpio
    if stop == "pause":
        scorpio.set_pause_state(PauseState.PAUSED_ALL)
    request = engine.request("late", slo_ttft_ms=5000)  # sent now
    started_s = scorpio._clock.now_s()
    scorpio.virtual_s += 30.0  # in which it stays in the socket
    if stop == "pause":
        scorpio.set_pause_state(PauseState.UNPAUSED)
    scorpio.add_request(request)
    assert scorpio._tracker.live["late"].view.arrival_s == pytest.approx(started_s)


def test_samples_of_interrupted_steps_are_dropped() -> None:
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", output=30)
    engine.step()
    engine.step()
    known = len(policy.samples)
    engine.step(60.0)  # stopped in the middle of a step
    assert len(policy.samples) == known
    engine.step()
    assert len(policy.samples) == known + 1


def test_a_stepped_wall_clock_moves_no_deadline_far() -> None:
    engine: Any = Engine(SPEC)
    for shift_s in (-3600.0, 3600.0):
        engine.scorpio.wall_s = lambda shift_s=shift_s: shift_s
        engine.add(f"r{shift_s}", slo_ttft_ms=500)
        assert -60.0 <= engine.scorpio._tracker.live[f"r{shift_s}"].view.arrival_s <= 0.0
