"""What do the small parts of the adapter say: counters, numbers, the engine as others see it?"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from scorpio.core.policies.rivals.fcfs import Fcfs
from scorpio.engine.record.faults import MONITORING, POLICY, SHADOW, Breaker, Faults
from scorpio.engine.view.shared_prefixes import _Member, _number
from scorpio.engine.virtual.build import EngineSpec, build_scheduler
from scorpio.engine.virtual.requests import RequestFactory
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from tests.conformance.snapshots import PROFILES
from tests.engine.driver import Engine


def test_no_fault_is_none() -> None:
    faults = Faults(lambda: 5.0)
    assert faults.counts == {POLICY: 0, MONITORING: 0, SHADOW: 0}
    assert faults.state() == {"monitoring_errors": 0, "faults": {}}
    faults.note(MONITORING, OSError(28, "disk is full"))
    faults.note(MONITORING, OSError(28, "disk is still full"))
    faults.note(POLICY, OSError("no number"))
    assert faults.counts == {POLICY: 1, MONITORING: 2, SHADOW: 0}
    (full, other) = faults.state()["faults"].items()  # type: ignore[attr-defined]
    assert full == (f"{MONITORING}: OSError ENOSPC",
                    {"count": 2, "first_unix_s": 5.0, "last_unix_s": 5.0})  # fmt: skip
    assert other[0] == f"{POLICY}: OSError"


def test_a_breaker_counts_failures_of_its_window() -> None:
    breaker = Breaker(3, 10.0, 60.0)
    for now_s in (0.0, 5.0, 10.5):  # three, but not within ten seconds
        breaker.failed(now_s)
    assert not breaker.is_open(10.5)
    breaker.failed(15.0)  # three from 5 to 15 s
    assert breaker.opened == 1
    assert breaker.is_open(15.0)
    assert breaker.is_open(74.9)
    assert not breaker.is_open(75.0)


def test_numbers_of_beginnings_are_exact_in_a_column_of_floats() -> None:
    member = _Member([b"\xff" * 32, b"\x00" * 32], [], None, 0)
    assert _number(member, 1) == (1 << 48) - 1 == int(float(_number(member, 1)))
    assert _number(member, 2) == 1  # 0 means none
    assert _number(member, 0) == 0


def test_a_policy_can_be_built_for_this_engine() -> None:
    assert isinstance(Engine().scorpio.policy_switch.build("fcfs"), Fcfs)


def test_the_virtual_scheduler_schedules_and_counts_what_that_takes() -> None:
    scheduler = build_scheduler(EngineSpec(), VirtualScorpioScheduler, {"policy": "scorpio"})
    assert isinstance(scheduler, VirtualScorpioScheduler)
    assert scheduler.plan_s == 0.0
    scheduler.add_request(RequestFactory(EngineSpec()).make("r", 0.0, 10, 4, {}))
    output = scheduler.schedule()
    assert output.num_scheduled_tokens == {"r": 10}
    assert scheduler.plan_s > 0.0


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"policy": "scorpio"}, 1), ({"policy": "fcfs"}, 0),
     ({"policy": "scorpio", "latency": PROFILES["a100"].to_dict()}, 0)],
)  # fmt: skip
def test_the_operator_is_told_that_nothing_is_timed(
    settings: dict[str, Any], told: int, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="vllm.scorpio"):
        Engine(scorpio=settings)
    # By another logger's handlers a record may be seen twice.
    messages = {record.message for record in caplog.records}
    assert sum("No latency profile" in message for message in messages) == told


def test_a_cap_that_fails_turns_none_away_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no number")

    engine = Engine()
    monkeypatch.setattr(type(engine.scorpio._caps), "refusal", broken)
    engine.add("a", output=2)
    assert engine.scorpio.telemetry.fallbacks == 1
    engine.drain()
    assert len(engine.tokens("a")) == 2
