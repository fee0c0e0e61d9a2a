"""Choices of one n > 1 request are refused together or not at all (invariant 32)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from scorpio.core.plan import FinalState, Rejection, RejectReason, StepPlan
from scorpio.engine.view.choices import Choices
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted
from tests.engine.test_serving_clock import PROFILE

LATE = RejectReason.TTFT_INFEASIBLE


def engine_with(policy: Scripted, seats: int = 8) -> Engine:
    engine = Engine(EngineSpec(pipeline_depth=1, max_num_seqs=seats))
    engine.scorpio.use_policy(policy)
    return engine


def stop_reasons(engine: Engine, *names: str) -> set[object]:
    return {engine.outputs[name][-1].stop_reason for name in names}


def test_one_refused_means_all_refused_and_none_admitted() -> None:
    policy = Scripted(StepPlan(admit=("0_x", "y"), reject=(Rejection("1_x", LATE, 2.0, 3.0),)))
    engine = engine_with(policy)
    for name in ("0_x", "1_x", "2_x", "y"):
        engine.add(name)
    assert set(engine.step().num_scheduled_tokens) == {"y"}
    assert all(len(engine.outputs[f"{i}_x"]) == 1 for i in range(3))
    assert len(stop_reasons(engine, "0_x", "1_x", "2_x")) == 1
    policy.answer = StepPlan()
    engine.drain()
    engine.assert_drained()
    assert engine.scorpio.telemetry.outcomes.total(FinalState.REJECTED) == 3


def test_choices_that_come_later_share_the_answer() -> None:
    policy = Scripted(StepPlan(reject=(Rejection("0_x", LATE, 2.0, 3.0),)))
    engine = engine_with(policy)
    engine.add("0_x")
    engine.step()
    policy.answer = StepPlan()
    engine.add("1_x")
    engine.drain()
    assert len(stop_reasons(engine, "0_x", "1_x")) == 1
    assert engine.tokens("1_x") == []


def test_once_one_has_begun_no_other_may_be_refused() -> None:
    policy = Scripted(StepPlan(admit=("0_x",)))
    engine = engine_with(policy)
    engine.add("0_x", output=20)
    engine.add("1_x")
    engine.step()
    policy.answer = StepPlan(admit=(), reject=(Rejection("1_x", LATE),))
    engine.step()
    engine.add("2_x")
    assert policy.seen is not None
    assert not policy.seen.waiting.rejectable.any()
    policy.answer = StepPlan(admit=(), reject=(Rejection("2_x", LATE),))
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    assert [len(engine.tokens(f"{i}_x")) for i in range(3)] == [20, 4, 4]
    assert engine.scorpio.telemetry.fallbacks == 0


def test_ids_that_only_look_alike_are_strangers() -> None:
    refusal = Rejection("cmpl-1_x", LATE)
    policy = Scripted(StepPlan(admit=("cmpl-2_x",), reject=(refusal,)))
    engine = engine_with(policy)
    engine.add("cmpl-1_x")
    engine.add("cmpl-2_x")
    assert set(engine.step().num_scheduled_tokens) == {"cmpl-2_x"}


def test_prompts_of_one_body_are_refused_together_or_not_at_all() -> None:
    refusal = Rejection("cmpl-a", LATE, 2.0, 3.0)
    policy = Scripted(StepPlan(admit=("other",), reject=(refusal,)))
    engine = engine_with(policy)
    engine.add("other", output=20)
    for name in ("cmpl-a", "0_cmpl-b", "1_cmpl-b"):
        engine.add(name, scorpio_body="x")
    engine.add("cmpl-c", scorpio_body="y", slo_ttft_ms=60_000)
    engine.step()
    policy.answer = StepPlan(admit=("cmpl-c",))
    engine.add("cmpl-d", scorpio_body="x")  # of the same body, later
    engine.add("cmpl-e", scorpio_body="y", slo_ttft_ms=60_000)
    engine.add("cmpl-f", scorpio_body="y", slo_ttft_ms=60_000, slo_on_miss="degrade")
    engine.step()
    assert len(stop_reasons(engine, "cmpl-a", "0_cmpl-b", "1_cmpl-b", "cmpl-d")) == 1
    live = engine.scorpio._tracker.live
    misses = [live[f"cmpl-{part}"].view.slo.on_miss.value for part in "ef"]
    assert misses == ["wait", "degrade"]  # one of the body runs: the others are to be answered
    policy.answer = StepPlan(admit=(), reject=(Rejection("cmpl-e", LATE),))
    engine.step()
    policy.answer = StepPlan()
    engine.drain()
    assert [len(engine.tokens(f"cmpl-{part}")) for part in "cef"] == [4, 4, 4]
    assert not engine.scorpio._choices._parents


@pytest.mark.parametrize("depth", [1, 2])
def test_under_overload_every_answer_is_whole(depth: Any) -> None:
    spec = EngineSpec(pipeline_depth=depth, max_num_batched_tokens=512, num_blocks=4000,
                      max_model_len=4096, max_num_seqs=8)  # fmt: skip
    engine, rng = Engine(spec, {"policy": "scorpio", "latency": PROFILE}), random.Random(7)
    ns = [rng.randint(1, 4) for _ in range(60)]
    for number, n in enumerate(ns):
        for index in range(n):
            engine.add(f"{index}_r{number}", rng.randint(50, 800), 20, slo_ttft_ms=800)
            if rng.random() < 0.3:
                engine.step(0.02)  # the choices of a request come one by one
    while engine.scheduler.has_requests():
        engine.step(0.02)
    fates = [{bool(engine.tokens(f"{index}_r{number}")) for index in range(n)}
             for number, n in enumerate(ns)]  # fmt: skip
    assert {len(fate) for fate in fates} == {1}
    assert {True} in fates
    assert {False} in fates
    assert engine.scorpio.telemetry.fallbacks == 0


def test_what_is_remembered_is_bounded() -> None:
    choices, engine = Choices(), Engine()
    for number in range(10_000):
        name = f"0_r{number}"
        request = engine.request(name)
        choices.arrived(request)
        choices.begun(request)
        choices.ended(name)
    assert len(choices._fates) <= 4096
    assert not choices._live
    assert not choices._parents
