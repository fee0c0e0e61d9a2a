"""Does a belief that is wrong end, whatever is refused by it?"""

from __future__ import annotations

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.plan import RejectReason
from scorpio.core.wire import RejectionNotice
from scorpio.engine import parts
from tests.engine.timed import STEP, Timed, settings

IDLE_S = 0.06  # what the engine really needs for 500 tokens: 10 ms and 0.1 ms each


def times(factor: float) -> StepModel:
    return StepModel(*(getattr(STEP, name) * factor for name in StepModel.__slots__))


def ask(engine: Timed, number: int, ttft_ms: float, **more: float) -> str:
    """One request at an idle engine, to its end."""
    name = f"r{number}"
    engine.add(name, 500, 20, slo_ttft_ms=ttft_ms, **more)
    for _ in range(100):
        engine.step()
        if not engine.scheduler.has_requests():
            break
    engine.wait(1.0)
    return name


@pytest.mark.parametrize("factor", [0.2, 5.0, 20.0])
def test_an_idle_engine_serves_what_a_wrong_profile_calls_late(factor: float) -> None:
    engine = Timed(STEP, settings(times(factor)))
    asked = [ask(engine, n, 250.0, slo_tpot_ms=30.0) for n in range(30)]
    late = [name for name in asked if engine.refusal(name) or engine.ttft_s(name) > 0.25]
    assert len(late) <= (0 if factor <= 5.0 else 17)  # x20: out of reach by far, so tried late
    assert not any(engine.refusal(name) for name in asked[17:])


@pytest.mark.parametrize("factor", [5.0, 10.0])
def test_those_beside_the_first_wait_for_what_it_teaches(factor: float) -> None:
    """Ten at once: all could be served in 0.5 s, where the profile says seconds."""
    engine = Timed(STEP, settings(times(factor)))
    names = [f"r{number}" for number in range(10)]
    for name in names:
        engine.add(name, 500, 20, slo_ttft_ms=1500.0)
    engine.run_until(engine.time_s + 5.0)
    assert not [name for name in names if engine.refusal(name)]
    assert all(engine.ttft_s(name) < 1.5 for name in names)


def test_what_is_out_of_reach_is_refused_beside_it_all_the_same() -> None:
    engine = Timed(STEP, settings(times(8.0)))
    for number in range(4):
        engine.add(f"r{number}", 500, 20, slo_ttft_ms=400.0)
    engine.add("never", 500, 20, slo_ttft_ms=1.0)
    engine.step()
    assert engine.refusal("never") is not None
    assert not any(engine.refusal(f"r{number}") for number in range(4))


def test_an_idle_engine_tries_all_choices_of_a_request() -> None:
    engine = Timed(STEP, settings(times(8.0)))
    for number in range(10):
        names = [f"{choice}_r{number}" for choice in range(2)]
        for name in names:
            engine.add(name, 500, 20, slo_ttft_ms=250.0)
        engine.run_until(engine.time_s + 2.0)
        assert not any(engine.refusal(name) for name in names)
        assert all(engine.ttft_s(name) < 0.25 for name in names)


def test_what_was_learned_in_a_slow_minute_ends_too() -> None:
    engine = Timed(times(10.0))
    for number in range(5):
        ask(engine, number, 5000.0)
    engine.true = STEP
    asked = [ask(engine, 10 + n, 250.0) for n in range(10)]
    assert not any(engine.refusal(name) for name in asked)
    assert [engine.ttft_s(name) < 0.25 for name in asked] == [True] * 10


@pytest.mark.parametrize("slo", [{"slo_ttft_ms": 1.0}, {"slo_ttft_ms": 9e3, "slo_tpot_ms": 1.0}])
def test_what_no_idle_engine_can_do_is_refused_for_good(slo: dict[str, float]) -> None:
    """At an idle engine that has measured nothing, at one that has, and at a busy one."""
    engine = Timed()
    told = []
    for number in range(3):
        name = f"never{number}"
        engine.add(name, 500, 20, **slo)
        for _ in range(3):
            engine.step()
        told.append(engine.refusal(name))
        if number == 0:
            ask(engine, 50, 5000.0)
        else:
            engine.add("busy", 500, 50) if number == 1 else None
            engine.step()
    assert all(isinstance(notice, RejectionNotice) for notice in told)
    assert [(n.retry_after_ms, n.never) for n in told if n] == [(None, True)] * 3


def test_an_slo_near_what_an_idle_engine_needs_may_come_back() -> None:
    engine = Timed()
    engine.add("busy", 4000, 50)
    for _ in range(5):
        engine.step()
    engine.add("busy too", 4000, 50)
    engine.step()
    engine.add("near", 500, 20, slo_ttft_ms=1e3 * IDLE_S * 0.8)
    engine.step()
    notice = engine.refusal("near")
    assert notice is not None
    assert notice.reason is RejectReason.TTFT_INFEASIBLE
    assert not notice.never


def test_steps_far_off_the_profile_are_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per episode; it ends when the steps are as they should be. The log has it once a way."""
    engine = Timed(times(8.0))
    seen = []
    told: list[object] = []
    monkeypatch.setattr(parts.logger, "warning", lambda _, factor: told.append(factor))
    for turn, true in enumerate((times(8.0), STEP, times(0.2), STEP, times(8.0))):
        engine.true = true
        for number in range(8):
            ask(engine, 100 * turn + number, 60_000.0)
        alarm = engine.scorpio.telemetry.profile_alarm
        seen.append((alarm.on, alarm.episodes))
    assert seen == [(True, 1), (False, 1), (True, 2), (False, 2), (True, 3)]
    assert len(told) == 2
