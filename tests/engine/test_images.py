"""Prompts with images: does each end, whatever the encoder has no room for, and cost others
nothing? vLLM's own `_try_schedule_encoder_inputs` shortens their chunks, to nothing if need be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import FinishReason, abort
from tests.engine.driver import Scripted, until_preempted
from tests.engine.picturing import PicturingEngine
from tests.engine_server import PROFILE

SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=128, num_blocks=400,
                  max_model_len=512, max_num_seqs=16)  # fmt: skip


@pytest.mark.parametrize("offset", [0, 16, 20])
@pytest.mark.parametrize("length", [60, 126, 128])
@pytest.mark.parametrize("waits", [False, True])
def test_an_image_longer_than_a_plan_allows_is_read(waits: bool, length: int, offset: int) -> None:
    """Up to the whole of what a step can take: with two decodes beside it there is never room."""
    engine = PicturingEngine(SPEC, whole=True)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    for name in ("a", "b"):
        engine.add(name, output=200)
    engine.step()
    policy.answer = StepPlan(token_budget=16, admit=None if waits else ("x",))
    engine.see("x", [(offset, length, "long")], offset + length + 10, 4)
    for _ in range(40):
        engine.step()
    assert len(engine.tokens("x")) == 4
    assert len(engine.tokens("a")) >= 38  # decodes sit out once, for the image
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


def test_an_image_without_room_leaves_the_step_to_those_behind_it() -> None:
    engine = PicturingEngine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.see("first", [(0, 120, "one")], 200, 9)
    engine.step()  # 128 tokens, the encoder's cache is kept until the image is read
    engine.see("half", [(10, 100, "half")], 120, 4)
    engine.see("no", [(0, 120, "two")], 130, 4)
    engine.add("text", prompt=20)
    hold(engine, "first")
    policy.answer = StepPlan(admit=("no", "half", "text"))
    scheduled = engine.step().num_scheduled_tokens
    assert scheduled["half"] == 10  # up to its image
    assert scheduled["text"] == 20
    assert "no" not in scheduled
    hold(engine, "first")
    engine.step()
    assert policy.seen is not None
    assert [view.request_id for view in policy.seen.waiting] == []
    assert engine.scorpio._state()["waiting_not_startable"] == 1
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_all_served()


def hold(engine: PicturingEngine, request_id: str) -> None:
    """It keeps its first image in the encoder's cache, whatever was read of it."""
    request = engine.scheduler.requests[request_id]
    cache = engine.scheduler.encoder_cache_manager
    if request_id not in cache.request_cached_ids:
        assert cache.check_and_update_cache(request, 0)


@pytest.mark.parametrize("beside", [False, True])
def test_whom_the_cache_has_no_room_for_waits_for_no_deferred_one(beside: bool) -> None:
    """`b` is wanted first and lacks the room that `a` takes, whose prefill is to sit out."""
    engine = PicturingEngine(SPEC, budget=100, cache=100)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    if beside:
        engine.add("d", output=100)
        engine.step()
    engine.see("a", [(0, 80, "one")], 200, 4)
    policy.answer = StepPlan(token_budget=40)
    engine.step()
    engine.see("b", [(10, 90, "two")], 200, 4)
    for _ in range(30):
        if engine.tokens("b"):
            break
        running = engine.scheduler.running
        rows = {r.request_id: row for row, r in enumerate(running) if r.is_prefill_chunk}
        late = [rows["a"]] if "a" in rows else []
        wanted = [rows["b"]] if "b" in rows else []
        policy.answer = StepPlan(token_budget=40, prefill_order=wanted, defer_prefill=late)
        assert engine.step().num_scheduled_tokens
    assert engine.tokens("b")
    policy.answer = None
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


def test_what_is_cached_is_not_encoded_again() -> None:
    engine = PicturingEngine(SPEC, {"policy": "scorpio", "latency": PROFILE.to_dict()})
    for name in ("a", "b"):
        engine.see(name, [(4, 100, "same")], 110, 4)
        engine.drain()
    engine.see("c", [(4, 100, "same"), (110, 100, "same")], 220, 4)
    engine.drain()
    assert sum(engine.runner.encoded) == 100
    engine.assert_all_served()


def test_other_images_are_other_prompts_to_the_prefix_cache() -> None:
    """With the same tokens in their place, as a chat with another image has."""
    which = EngineSpec(**{**asdict(SPEC), "enable_prefix_caching": True})
    engine = PicturingEngine(which, {"policy": "scorpio", "latency": PROFILE.to_dict()},
                             budget=1000, cache=1000)  # fmt: skip
    engine.scorpio.use_policy(Scripted(StepPlan(admit=())))
    alike = {"prefix_ids": [7] * 8, "prefix_block_tokens": 16}
    engine.add("busy", 16, 100)
    engine.see("one", [(32, 64, "one")], 128, 4, more=alike)
    engine.see("two", [(32, 64, "two")], 128, 4, more=alike)
    engine.see("one again", [(32, 64, "one")], 128, 4, more=alike)
    views = {
        name: engine.scorpio.view_of(engine.scheduler.requests[name]) for name in engine.wanted
    }
    assert views["two"].shared_tokens == 32  # the text in front of the image
    assert views["one again"].shared_tokens == 112
    engine.scorpio.use_policy(Scripted())
    engine.drain()
    for name, cached in (("two", 112), ("three", 32)):
        engine.see(f"late {name}", [(32, 64, name)], 128, 4, more=alike)
        request = engine.scheduler.requests[f"late {name}"]
        assert engine.scorpio.view_of(request).cached_tokens == cached
    engine.drain()
    engine.assert_all_served()


def test_aborts_and_refusals_free_the_encoders_cache() -> None:
    engine = PicturingEngine(SPEC)
    policy = Scripted(StepPlan(token_budget=40))
    engine.scorpio.use_policy(policy)
    engine.see("leaves", [(10, 80, "one")], 200, 4)
    engine.step()
    assert engine.scheduler.encoder_cache_manager.cached["one"]
    engine.see("refused", [(0, 80, "two")], 100, 4)
    engine.step()
    abort(engine.scheduler, "leaves")
    refusal = Rejection("refused", RejectReason.TTFT_INFEASIBLE)
    policy.answer = StepPlan(admit=(), reject=(refusal,))
    engine.step()
    policy.answer = None
    engine.drain()
    engine.assert_drained()
    engine.assert_nothing_encoded_is_held()
    assert engine.outputs["refused"][-1].finish_reason is FinishReason.ABORT


@pytest.mark.parametrize("depth", [1, 2])
def test_preempted_ones_read_their_images_again(depth: Any) -> None:
    which = EngineSpec(num_blocks=18, max_model_len=256, pipeline_depth=depth, max_num_seqs=4)
    engine = PicturingEngine(which, budget=100, cache=100)
    engine.scorpio.use_policy(Scripted())
    engine.see("a", [(4, 90, "one")], 100, 100)
    engine.see("b", [(4, 90, "two")], 100, 100)
    until_preempted(engine)
    engine.drain()
    engine.assert_all_served()


def test_an_item_that_is_not_what_was_said_of_it_ends_its_request_alone() -> None:
    """A client reuses an id for another image: vLLM ends the request, when it comes across it."""
    engine = PicturingEngine(SPEC)
    engine.scorpio.use_policy(Scripted(StepPlan(admit=("odd", "text"))))
    engine.see("first", [(0, 80, "id")], 120, 40)
    engine.step()
    engine.step()
    engine.see("odd", [(0, 70, "id")], 120, 4)
    engine.add("text", prompt=20)
    for _ in range(6):
        engine.step()
    assert engine.outputs["odd"][-1].finish_reason is FinishReason.ERROR
    assert engine.tokens("text")
    engine.scorpio.use_policy(Scripted())
    engine.drain()
    del engine.wanted["odd"]
    engine.assert_all_served()


def test_a_session_goes_on_with_an_image() -> None:
    engine = PicturingEngine(SPEC, {"policy": "scorpio", "latency": PROFILE.to_dict()})
    session = engine.request("s", 40, 2, more={"images": [(0, 30, "one")]})
    session.resumable = True
    engine.scheduler.add_request(session)
    while session.status != RequestStatus.WAITING_FOR_STREAMING_REQ:
        engine.step()
    update = engine.factory.make("s", 0.0, 60, 2, {}, images=[(10, 40, "two")])
    update.resumable = True
    engine.scheduler.add_request(update)
    for _ in range(20):
        engine.step()
    assert sum(engine.runner.encoded) == 70
    abort(engine.scheduler, "s")
    engine.step()
    engine.assert_nothing_encoded_is_held()
