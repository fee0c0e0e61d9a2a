"""LoRA: vLLM asserts that a batch has at most `max_loras` adapters; no plan may break that."""

from __future__ import annotations

import random
from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.core.plan import StepPlan
from scorpio.core.registry import policy_names
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler
from tests.conformance.snapshots import policy_for
from tests.engine.driver import Engine, Scripted, VirtualScheduler
from tests.engine.timed import Timed, settings

PATIENCE_S = 2.0


def lora_spec(max_loras: int, depth: Any = 1, blocks: int = 400) -> EngineSpec:
    return EngineSpec(max_num_seqs=8, max_num_batched_tokens=64, max_model_len=512,
                      num_blocks=blocks, pipeline_depth=depth, max_loras=max_loras)  # fmt: skip


@pytest.mark.parametrize("admit", [["other"], None])
def test_an_adapter_that_sits_out_a_step_keeps_its_place(admit: list[str] | None) -> None:
    engine = Engine(lora_spec(1))
    policy = Scripted(StepPlan())
    engine.scorpio.use_policy(policy)
    engine.add("long", 200, adapter=1)
    engine.step()
    engine.add("other", 20, adapter=2)
    engine.add("base", 20)
    # Without the prefill of `long` vLLM sees no adapter in the step and would let `other` in.
    policy.answer = StepPlan(defer_prefill=[0], admit=admit and [*admit, "base"])
    assert "other" not in engine.step().num_scheduled_tokens
    policy.answer = StepPlan()
    engine.drain()
    assert engine.scorpio.telemetry.fallbacks == 0
    assert all(outs[-1].finish_reason is not None for outs in engine.outputs.values())
    engine.assert_drained()


def test_a_session_that_reads_on_takes_no_place_of_one_that_sits_out() -> None:
    """It holds KV, so vLLM starts it by itself, whatever a plan lets in."""
    engine = Engine(lora_spec(1))
    policy = Scripted(StepPlan())
    engine.scorpio.use_policy(policy)
    session = engine.request("s", 20, 2, adapter=1)
    session.resumable = True
    engine.scheduler.add_request(session)
    while session.status != RequestStatus.WAITING_FOR_STREAMING_REQ:
        engine.step()
    engine.add("long", 200, adapter=2)
    engine.step()
    part = engine.request("s", 20, 2)
    part.resumable = True
    engine.scheduler.add_request(part)
    policy.answer = StepPlan(defer_prefill=[0])
    assert engine.step().num_scheduled_tokens.keys() == {"long"}
    policy.answer = StepPlan()
    for _ in range(20):
        engine.step()
    assert len(engine.tokens("long")) == 4
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", policy_names())
def test_every_policy_serves_more_adapters_than_fit(name: str, depth: Any) -> None:
    # Few blocks, so that some are preempted and resume; `wait`, so that all are to be served.
    engine, rng = Engine(lora_spec(2, depth, blocks=40)), random.Random(3)
    engine.scorpio.use_policy(policy_for(name, engine.scorpio._limits))
    for index in range(60):
        slo = {"slo_ttft_ms": rng.choice([50, 500, 5000]), "slo_tpot_ms": rng.choice([20, 100])}
        engine.add(f"r{index}", rng.randint(1, 150), rng.randint(1, 40), adapter=rng.randint(0, 4),
                   **slo, slo_on_miss="wait")  # fmt: skip
        for _ in range(rng.randint(0, 3)):
            engine.step()  # vLLM itself asserts that no step has more than two adapters
    engine.drain()
    assert engine.scorpio.telemetry.fallbacks == 0
    for index in range(60):
        assert engine.outputs[f"r{index}"][-1].finish_reason is not None, index
    engine.assert_drained()


def patient(spec: EngineSpec, cls: type[AsyncScheduler] = VirtualScheduler) -> Timed:
    return Timed(scorpio=settings(policy_options={"patience_s": PATIENCE_S}), cls=cls, spec=spec)


@pytest.mark.parametrize("per_s", [8.0, 40.0])
def test_an_adapter_gets_a_place_though_others_are_always_in_use(per_s: float) -> None:
    """At light load too, where steps are stock's: vLLM passes over it for as long as others come
    whose adapters have places."""
    engine, number, longest = patient(lora_spec(2)), 0, 60
    while engine.time_s < 20.0 and "third" not in engine.first_s:
        while number / per_s <= engine.time_s:
            engine.add(f"r{number}", 20, longest, adapter=1 + number % 2)
            number += 1
        if number > 4 and "third" not in engine.born_s:
            engine.add("third", 20, adapter=3)
        engine.step()
    # Who has waited for patience_s, and then the longest running answer.
    assert engine.ttft_s("third") <= PATIENCE_S + longest * 0.02 + 0.1


def test_one_place_gets_free_while_the_others_stay_in_use() -> None:
    """Were all to get free for one that waits, most of the batch would stand empty."""
    ended_s = []
    for cls in (VirtualScheduler, AsyncScheduler):
        engine, rng = patient(lora_spec(2), cls), random.Random(1)
        for index in range(300):
            engine.add(f"r{index}", 20, rng.randint(5, 60), adapter=1 + index % 4)
        while engine.scheduler.has_requests():
            engine.step()
        ended_s.append(engine.time_s)
    assert ended_s[0] <= 1.1 * ended_s[1]
