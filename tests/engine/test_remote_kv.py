"""KV that comes from elsewhere, or goes there: offloading, and prefill on another engine. Is it
counted once, does each request end, and is every block free in the end?"""

from __future__ import annotations

from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import FinishReason, abort
from tests.engine.connecting import ConnectedEngine
from tests.engine.driver import Scripted
from tests.engine_server import PROFILE

SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=128, num_blocks=200,
                  max_model_len=512, max_num_seqs=16)  # fmt: skip


def spec(depth: Any, **more: Any) -> EngineSpec:
    return EngineSpec(
        pipeline_depth=depth, max_num_batched_tokens=128, num_blocks=100, max_num_seqs=8,
        max_model_len=512, **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["now", "later"])
def test_what_comes_from_elsewhere_is_not_computed(kind: str) -> None:
    engine = ConnectedEngine(SPEC, {"policy": "scorpio", "latency": PROFILE.to_dict()})
    engine.ask("a", kind, 200, tokens=160)
    engine.drain()
    assert engine.runner.computed["a"] == 40
    engine.assert_all_served()


def test_running_ones_have_only_the_rest_of_their_prompt_left() -> None:
    engine = ConnectedEngine(SPEC)
    policy = Scripted(StepPlan(token_budget=10))
    engine.scorpio.use_policy(policy)
    engine.ask("a", "now", 200, tokens=160)
    for left in (30, 20, 10):
        engine.step()
        engine.scorpio._snapshot()
        assert engine.scorpio._snapshot().running.prefill_left.tolist() == [left]


@pytest.mark.parametrize("caching", [False, True])
def test_a_prompt_that_another_engine_has_read_is_no_work(caching: bool) -> None:
    """On a decode instance: neither when it arrives nor while it waits; after a load that failed it
    is."""
    which = EngineSpec(
        pipeline_depth=1, max_num_batched_tokens=128, num_blocks=200, max_model_len=512,
        max_num_seqs=16, enable_prefix_caching=caching,
    )  # fmt: skip
    engine = ConnectedEngine(which)
    policy = Scripted(StepPlan(admit=()))
    engine.scorpio.use_policy(policy)
    engine.ask("busy", "none", 16, 90)
    policy.answer = StepPlan()
    engine.step()
    policy.answer = StepPlan(admit=())
    remote = {"tokens": 300, "do_remote_prefill": True}
    request = engine.ask("a", "fails later", 300, **remote)
    assert engine.scorpio.view_of(request).prefill_tokens == 1
    engine.step()
    engine.step()
    assert [view.prefill_tokens for view in engine.scorpio._snapshot().waiting] == [1]
    policy.answer = StepPlan()
    engine.drain()
    assert engine.runner.computed["a"] > 1
    engine.assert_all_served()


def test_one_whose_kv_is_on_its_way_waits_and_is_not_the_policys() -> None:
    engine = ConnectedEngine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    request = engine.ask("a", "later", 200, tokens=160, steps=4)
    engine.ask("b", "none", 20, 20)
    assert set(engine.step().num_scheduled_tokens) == {"b"}
    assert request.status == RequestStatus.WAITING_FOR_REMOTE_KVS
    free = engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    for _ in range(3):
        engine.step()
        assert policy.seen is not None
        assert [view.request_id for view in policy.seen.waiting] == []
    state = engine.scorpio._state()
    assert (state["waiting"], state["waiting_not_startable"]) == (1, 1)
    assert (state["waiting_for_remote_kv"], state["unfinished"]) == (1, 1)
    assert engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks() <= free
    engine.drain()
    engine.assert_all_served()


def test_loads_take_no_place_in_a_step_from_others() -> None:
    """With nothing else to compute, those that the plan did not name start beside a load: in the
    same step where it is known of a prompt that it will be one, else in the next."""
    for known in (False, True):
        engine = ConnectedEngine(SPEC)
        policy = Scripted(StepPlan(admit=("a",)))
        engine.scorpio.use_policy(policy)
        engine.ask("a", "later", 200, tokens=160, steps=4, do_remote_prefill=known)
        engine.ask("b", "none", 20)
        if not known:
            assert not engine.step().num_scheduled_tokens
        assert set(engine.step().num_scheduled_tokens) == {"b"}
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_one_that_comes_back_has_its_place_beside_the_plans_tokens() -> None:
    engine = ConnectedEngine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.ask("d", "none", 16, 90)
    engine.ask("a", "later", 200, tokens=199, steps=1)
    engine.step()
    policy.answer = StepPlan(token_budget=1, admit=())
    steps = 0
    while "a" not in engine.step().num_scheduled_tokens:
        steps += 1
        assert steps < 10
    assert policy.seen is not None
    assert policy.seen.limits.max_num_seqs == 15  # its seat is taken
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_one_of_which_the_connector_cannot_say_yet_is_asked_again() -> None:
    """In each step, though the plan goes on without it."""
    engine = ConnectedEngine(SPEC)
    policy = Scripted(StepPlan(admit=("a",)))
    engine.scorpio.use_policy(policy)
    engine.ask("d", "none", 16, 90)
    policy.answer = None
    engine.step()
    policy.answer = StepPlan(admit=("a",))
    engine.ask("a", "asks now", 200, tokens=160, asks=4)
    engine.step()
    policy.answer = StepPlan(admit=("b",))
    engine.ask("b", "none", 20)
    engine.step()
    assert policy.seen is not None
    assert [view.request_id for view in policy.seen.waiting] == []
    assert engine.tokens("b")
    for _ in range(5):
        engine.step()
    assert engine.tokens("a")
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["later", "later sends", "fails later"])
def test_aborted_while_it_is_loaded(depth: Any, kind: str) -> None:
    engine = ConnectedEngine(spec(depth))
    engine.scorpio.use_policy(Scripted())
    engine.ask("a", kind, 200, tokens=160, steps=6)
    engine.ask("b", "none", 20, 30)
    engine.step()
    engine.step()
    abort(engine.scheduler, "a")
    assert engine.connector.ended == ["a"]
    assert "a" in engine.scheduler.requests  # its blocks are still being written
    assert "a" not in engine.scorpio.tracked_ids
    engine.drain()
    engine.assert_drained()
    assert engine.connector.ended == ["a", "b"]


@pytest.mark.parametrize("kind", ["later", "asks later", "later sends"])
def test_a_refusal_tells_the_connector(kind: str) -> None:
    engine = ConnectedEngine(SPEC)
    policy = Scripted(StepPlan(admit=()))
    engine.scorpio.use_policy(policy)
    engine.ask("a", kind, 200, tokens=160, do_remote_prefill=True)
    refusal = Rejection("a", RejectReason.TTFT_INFEASIBLE)
    policy.answer = StepPlan(admit=(), reject=(refusal,))
    engine.ask("b", "none", 20)
    policy.answer = StepPlan(admit=("b",), reject=(refusal,))
    engine.step()
    assert engine.connector.ended == ["a"]
    policy.answer = None
    engine.drain()
    engine.assert_drained()
    assert engine.outputs["a"][-1].finish_reason is FinishReason.ABORT


def test_choices_of_one_that_is_loaded_are_not_refused() -> None:
    engine = ConnectedEngine(SPEC)
    policy = Scripted(StepPlan(admit=("0_a", "b")))
    engine.scorpio.use_policy(policy)
    engine.ask("b", "none", 20, 30)
    engine.step()
    for choice in range(2):
        engine.ask(f"{choice}_a", "later", 200, tokens=160, steps=5)
    engine.step()
    refusal = Rejection("1_a", RejectReason.TTFT_INFEASIBLE)
    policy.answer = StepPlan(admit=(), reject=(refusal,))
    engine.step()
    policy.answer = None
    engine.drain()
    engine.assert_all_served()


def test_a_load_that_fails_ends_its_request_where_the_operator_says_so() -> None:
    engine = ConnectedEngine(SPEC, {"policy": "scorpio", "latency": PROFILE.to_dict()},
                             failures="fail")  # fmt: skip
    for name, kind in (("now", "fails now"), ("later", "fails later")):
        engine.ask(name, kind, 200, tokens=160)
    engine.ask("b", "none", 20, 30)
    engine.drain()
    engine.assert_drained()
    reasons = {name: engine.outputs[name][-1].finish_reason for name in ("now", "later")}
    assert set(reasons.values()) == {FinishReason.ERROR}
    assert len(engine.tokens("b")) == 30
    assert sorted(engine.connector.ended) == ["b", "later", "now"]


@pytest.mark.parametrize("depth", [1, 2])
def test_blocks_are_held_until_they_are_sent(depth: Any) -> None:
    engine = ConnectedEngine(spec(depth), role="kv_producer")
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.ask("a", "sends", 200, 1)
    while not engine.outputs["a"]:
        engine.step()
    assert "a" in engine.scheduler.requests
    assert engine.scorpio._snapshot().kv_free_tokens == (99 - 13) * 16
    engine.drain()
    engine.assert_all_served()
