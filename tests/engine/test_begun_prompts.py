"""A prompt that has begun is refused like one that waits, as long as it has no token."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

import pytest

from scorpio.core.plan import FinalState, Rejection, RejectReason, StepPlan
from scorpio.core.slo import OnMiss
from scorpio.core.wire import decode_rejection
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted, expected
from tests.engine.timed import SPEC, Timed

NO = (Rejection("giant", RejectReason.TTFT_INFEASIBLE, 2.0, 3.0),)
DEPTHS = pytest.mark.parametrize("depth", [1, 2])


def two_prompts_and_a_decode(depth: Literal[1, 2], policy: Scripted) -> Engine:
    """Decode `d`, then 100 of each 200 tokens of `giant` and of `other`, in this order."""
    spec = EngineSpec(pipeline_depth=depth, max_num_seqs=8, max_num_batched_tokens=201)
    engine = Engine(spec, {"policy": "fcfs"})
    engine.scorpio.use_policy(policy)
    engine.add("d", 10, 30)
    for _ in range(3):
        engine.step()
    for name, deferred in (("giant", ()), ("other", (1,))):
        policy.answer = StepPlan(admit=(name,), defer_prefill=deferred, token_budget=101)
        engine.add(name, 200, slo_ttft_ms=500.0)
        engine.step()
    return engine


@DEPTHS
def test_it_ends_at_once_and_the_rest_of_the_plan_holds(depth: Literal[1, 2]) -> None:
    policy = Scripted()
    engine = two_prompts_and_a_decode(depth, policy)
    scheduler = engine.scheduler
    assert [r.request_id for r in scheduler.running] == ["d", "giant", "other"]
    used = scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    policy.answer = StepPlan(admit=(), prefill_order=(2,), defer_prefill=(1,), reject=NO)
    assert set(engine.step().num_scheduled_tokens) == {"d", "other"}
    assert [r.request_id for r in scheduler.running] == ["d", "other"]
    assert scheduler.kv_cache_manager.block_pool.get_num_free_blocks() > used
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_drained()
    (told,) = engine.outputs["giant"]
    notice = decode_rejection(told.stop_reason)
    assert notice is not None
    assert (notice.reason, told.new_token_ids) == (RejectReason.TTFT_INFEASIBLE, [])
    assert engine.tokens("d") == expected(1, 30)
    assert engine.tokens("other") == expected(3, 4)
    assert engine.scorpio.telemetry.fallbacks == 0
    outcomes = engine.scorpio.telemetry.outcomes
    assert outcomes.total(FinalState.REJECTED) == 1
    assert outcomes.total(FinalState.ABORTED) == 0


@DEPTHS
def test_one_with_a_token_is_not(depth: Literal[1, 2]) -> None:
    policy = Scripted()
    engine = two_prompts_and_a_decode(depth, policy)
    policy.answer = StepPlan()
    engine.step()
    policy.answer = StepPlan(reject=NO)
    engine.step()
    assert engine.scorpio.telemetry.fallbacks == 1  # the plan is unlawful
    policy.answer = None
    engine.drain()
    assert engine.tokens("giant") == expected(2, 4)


def test_a_step_of_nothing_but_such_ones_is_empty() -> None:
    policy = Scripted(StepPlan(token_budget=100))
    engine = Engine(EngineSpec(pipeline_depth=1), {"policy": "fcfs"})
    engine.scorpio.use_policy(policy)
    engine.add("giant", 300, slo_ttft_ms=500.0)
    engine.step()
    policy.answer = StepPlan(admit=(), defer_prefill=(0,), reject=NO)
    assert not engine.step().num_scheduled_tokens
    assert len(engine.outputs["giant"]) == 1
    engine.drain()
    engine.assert_drained()


def on_miss(policy: Scripted) -> list[OnMiss]:
    assert policy.seen is not None
    return [view.slo.on_miss for view in policy.seen.running.views]


def test_a_part_of_a_body_is_answered_once_it_has_begun() -> None:
    """Another part of it may be on its way: they are refused together or not at all."""
    policy = Scripted(StepPlan(admit=("0_giant",), token_budget=100))
    engine = Engine(EngineSpec(pipeline_depth=1), {"policy": "fcfs"})
    engine.scorpio.use_policy(policy)
    engine.add("0_giant", 300, slo_ttft_ms=500.0)
    engine.add("alone", 300, slo_ttft_ms=500.0)
    engine.step()
    policy.answer = StepPlan(admit=("alone",), defer_prefill=(0,), token_budget=100)
    engine.step()
    engine.step()
    assert on_miss(policy) == [OnMiss.WAIT, OnMiss.REJECT]


def test_a_session_is_answered_once_it_has_begun() -> None:
    policy = Scripted(StepPlan(token_budget=100))
    engine = Engine(EngineSpec(pipeline_depth=1), {"policy": "fcfs"})
    engine.scorpio.use_policy(policy)
    part = engine.request("s", 300, slo_ttft_ms=500.0)
    part.resumable = True
    engine.scheduler.add_request(part)
    for _ in range(2):
        engine.step()
    assert on_miss(policy) == [OnMiss.WAIT]


@pytest.mark.parametrize("seed", range(4))
def test_under_a_crowd_of_long_prompts_what_is_served_is_good(seed: int) -> None:
    """Long prompts begin, and shorter ones that come later have the better claim. Each is served
    in time or refused, some of them in the middle of their prompts."""
    spec = replace(SPEC, max_num_batched_tokens=512)
    engine, rng, seen = Timed(spec=spec), random.Random(seed), set[str]()
    for number in range(80):
        prompt = rng.choice((200, 400, 8000))
        engine.add(f"r{number}", prompt, 20, slo_ttft_ms=rng.choice((400, 1000, 2500)))
        engine.run_until(engine.time_s + rng.expovariate(5.0))
        seen |= {r.request_id for r in engine.scheduler.running}
    engine.run_until(engine.time_s + 60.0)
    refused = {name for name in engine.outputs if engine.refusal(name)}
    assert refused & seen  # begun
    assert not any(engine.tokens(name) for name in refused)
    assert engine.scorpio.telemetry.fallbacks == 0
    engine.assert_drained()
    late = [n for n in engine.first_s if engine.ttft_s(n) > 2.5]
    assert not late
