"""Queue length, queued prompt tokens and a tenant's requests in flight have caps (invariant 29)."""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.wire import decode_rejection
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import abort
from scorpio.settings import SettingsError, load_settings
from tests.engine.driver import Engine, Scripted

SPEC = EngineSpec(pipeline_depth=1, max_num_seqs=2)


def capped(policy: Scripted | None = None, **settings: int) -> Engine:
    engine = Engine(SPEC, {"policy": "fcfs", **settings})
    if policy is not None:
        engine.scorpio.use_policy(policy)
    return engine


def reasons(engine: Engine, names: list[str]) -> list[RejectReason | None]:
    found = []
    for name in names:
        notice = decode_rejection(engine.outputs[name][-1].stop_reason)
        found.append(None if notice is None else notice.reason)
    return found


@pytest.mark.parametrize("depth", [1, 2])
def test_one_that_comes_beyond_the_longest_queue_is_told_at_once(depth: Any) -> None:
    engine = Engine(EngineSpec(pipeline_depth=depth, max_num_seqs=2),
                    {"policy": "fcfs", "most_waiting": 3})  # fmt: skip
    names = [f"r{index}" for index in range(6)]
    for name in names:
        engine.add(name)
        assert len(engine.scheduler.waiting) <= 3
    engine.drain()
    assert reasons(engine, names) == [None] * 3 + [RejectReason.QUEUE_FULL] * 3
    assert all(len(engine.outputs[name]) == 1 for name in names[3:])
    engine.add("later")
    engine.drain()
    assert len(engine.tokens("later")) == 4
    engine.assert_drained()


def test_queued_prompt_tokens_are_bounded_but_one_prompt_is_never_too_long() -> None:
    engine = capped(most_waiting_tokens=100)
    engine.add("long", prompt=500)
    engine.add("more", prompt=1)
    engine.drain()
    assert reasons(engine, ["long", "more"]) == [None, RejectReason.QUEUE_FULL]
    engine.assert_drained()


def test_a_tenants_requests_in_flight_are_bounded_whatever_names_it_makes_up() -> None:
    engine = capped(most_in_flight_per_tenant=3)
    names = [f"a{index}" for index in range(5)]
    for index, name in enumerate(names):
        engine.add(name, slo_tenant=f"7/name{index}", output=20)
        engine.step()
    engine.add("b", slo_tenant="8/", output=3)
    for _ in range(5):
        engine.step()
    abort(engine.scheduler, "a0")
    engine.add("a5", slo_tenant="7/")
    engine.drain()
    over = [RejectReason.OVER_QUOTA] * 2
    assert reasons(engine, names[1:]) == [None, None, *over]
    assert reasons(engine, ["b", "a5"]) == [None, None]
    assert not engine.scorpio._tracker.in_flight
    engine.assert_drained()


@pytest.mark.parametrize("body", [{}, {"scorpio_body": "7f"}])
def test_parts_of_a_body_are_turned_away_together(body: Any) -> None:
    policy = Scripted(StepPlan(admit=()))
    engine = capped(policy, most_waiting=4)
    engine.add("a", output=30)
    engine.step()
    engine.add("b")
    names = [f"cmpl-{index}" if body else f"{index}_x" for index in range(4)]
    for name in names:
        engine.add(name, **body)
    policy.answer = StepPlan()
    engine.drain()
    assert reasons(engine, names) == [RejectReason.QUEUE_FULL] * 4
    assert len(engine.tokens("b")) == 4


def test_once_a_choice_has_begun_the_others_are_let_in() -> None:
    engine = capped(most_waiting=1)
    engine.add("0_x", output=30)
    engine.step()
    for index in range(1, 4):
        engine.add(f"{index}_x")
    engine.drain()
    assert reasons(engine, [f"{index}_x" for index in range(4)]) == [None] * 4


def test_those_turned_away_together_are_not_to_come_back_together() -> None:
    engine = capped(most_waiting=1)
    names = [f"r{index}" for index in range(61)]
    for name in names:
        engine.add(name)
    engine.drain()
    told = [decode_rejection(engine.outputs[name][-1].stop_reason) for name in names[1:]]
    times_ms = sorted(notice.retry_after_ms or 0 for notice in told if notice is not None)
    assert len(set(times_ms)) == 60
    assert (times_ms[0] < 1500, times_ms[-1] > 4500) == (True, True)
    assert all(1000 <= ms <= 5000 for ms in times_ms)


def test_the_caps_are_on_by_default_and_checked() -> None:
    settings = load_settings({})
    assert settings.most_waiting == 32_768
    assert settings.most_waiting_tokens == 1 << 26
    assert settings.most_in_flight_per_tenant == 16_384
    for name in ("most_waiting", "most_waiting_tokens", "most_in_flight_per_tenant"):
        with pytest.raises(SettingsError, match=name):
            load_settings({"scorpio": {name: 0}})
