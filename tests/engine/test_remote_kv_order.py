"""Whom does a KV connector let start, and whom not? Those that are loaded stand in the way of none,
nor others in theirs, and the policy's admission stands."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.core.plan import StepPlan
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.connecting import ConnectedEngine
from tests.engine.driver import Scripted


def spec(**more: Any) -> EngineSpec:
    return EngineSpec(**{
        "pipeline_depth": 1, "max_num_batched_tokens": 128, "num_blocks": 200,
        "max_model_len": 512, "max_num_seqs": 16, **more,
    })  # fmt: skip


def test_one_without_room_that_the_connector_was_asked_of_stops_none() -> None:
    """It has been asked for, the connector has answered, and now its KV does not fit."""
    engine = ConnectedEngine(spec(num_blocks=40))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.ask("r", "none", 200, 150)
    for _ in range(4):
        engine.step()
    engine.ask("x", "asks now", 460, 4, tokens=0, asks=1)
    policy.answer = StepPlan(admit=("x",))
    engine.step()
    engine.ask("b", "none", 20, 4)
    policy.answer = StepPlan(admit=("b",))
    for _ in range(5):
        engine.step()
    assert engine.tokens("b")
    assert policy.seen is not None
    assert [view.request_id for view in policy.seen.waiting] == ["x"]
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_one_that_comes_back_is_not_behind_a_long_prefill() -> None:
    engine = ConnectedEngine(spec())
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.ask("d", "none", 16, 90)
    engine.ask("a", "later", 200, tokens=199, steps=1)
    engine.step()
    engine.ask("long", "none", 480, 4)
    policy.answer = StepPlan(token_budget=12, admit=("long",))
    engine.step()
    policy.answer = StepPlan(token_budget=12, admit=())
    steps = [dict(engine.step().num_scheduled_tokens) for _ in range(6)]
    assert any("a" in step for step in steps)
    assert all("d" in step for step in steps)
    assert sum("long" in step for step in steps) == 5  # it sat out once
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_a_prefill_does_not_sit_out_for_one_that_has_no_seat() -> None:
    engine = ConnectedEngine(spec(max_num_seqs=2))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.ask("a", "later", 200, tokens=199, steps=1)
    engine.step()
    engine.ask("d", "none", 16, 90)
    engine.ask("long", "none", 480, 4)
    engine.step()
    policy.answer = StepPlan(token_budget=12)
    for _ in range(40):
        engine.step()
    assert engine.tokens("long")
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


@pytest.mark.parametrize("role", ["kv_both", "kv_producer"])
def test_the_policys_admission_stands(role: str) -> None:
    """With a connector that has nothing of them."""
    engine = ConnectedEngine(spec(), role=role)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    for number in range(6):
        engine.ask(f"r{number}", "none", 20, 4)
    for number in range(6):
        policy.answer = StepPlan(admit=(f"r{number}",))
        assert [new.req_id for new in engine.step().scheduled_new_reqs] == [f"r{number}"]


def test_those_behind_a_load_take_no_adapters_place_of_it() -> None:
    engine = ConnectedEngine(spec(max_loras=1))
    policy = Scripted(StepPlan(admit=("a",)))
    engine.scorpio.use_policy(policy)
    remote = {"tokens": 160, "steps": 3, "do_remote_prefill": True}
    engine.ask("b", "none", 20, adapter=2)
    engine.ask("a", "now", 200, adapter=1, **remote)
    engine.ask("c", "none", 20, adapter=1)
    assert set(engine.step().num_scheduled_tokens) == {"a", "c"}
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_one_with_an_adapter_is_asked_for_again_too() -> None:
    engine = ConnectedEngine(spec(max_loras=2))
    policy = Scripted(StepPlan(admit=("a",)))
    engine.scorpio.use_policy(policy)
    engine.ask("d", "none", 16, 40)
    policy.answer = None
    engine.step()
    engine.ask("a", "asks now", 200, adapter=1, tokens=160, asks=3)
    policy.answer = StepPlan(admit=("a",))
    engine.step()
    policy.answer = StepPlan(admit=())
    for _ in range(4):
        engine.step()
    assert engine.tokens("a")
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_loads_on_their_way_are_told_to_routers() -> None:
    engine = ConnectedEngine(spec())
    engine.scorpio.use_policy(Scripted())
    request = engine.ask("a", "later", 200, tokens=160, steps=4)
    engine.step()
    assert request.status == RequestStatus.WAITING_FOR_REMOTE_KVS
    assert engine.scorpio.load(0.0).waiting == 1
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.load(0.0).waiting == 0
