"""--no-enable-chunked-prefill: a prompt longer than the step starts whole, as in stock."""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.plan import StepPlan
from scorpio.core.registry import policy_names
from scorpio.engine.virtual.build import EngineSpec
from tests.conformance.snapshots import policy_for
from tests.engine.driver import Engine, Scripted

SPEC = EngineSpec(pipeline_depth=1, enable_chunked_prefill=False, max_num_batched_tokens=1024,
                  max_model_len=1024, num_blocks=1000)  # fmt: skip


@pytest.mark.parametrize("running", [0, 4])
@pytest.mark.parametrize("name", policy_names())
def test_long_prompts_start_beside_decodes_with_a_target(name: str, running: Any) -> None:
    engine = Engine(SPEC)
    engine.scorpio.use_policy(policy_for(name, engine.scorpio._limits))
    for index in range(running):
        engine.add(f"d{index}", 32, 900, slo_tpot_ms=30)
    engine.step()
    for index in range(9):
        engine.add(f"p{index}", 900, 4, slo_ttft_ms=20_000, slo_on_miss="wait")
    for _ in range(400):
        engine.step(0.03)
    assert all(len(engine.tokens(f"p{index}")) == 4 for index in range(9))
    assert engine.scorpio.telemetry.fallbacks == 0


def test_a_part_of_a_prompt_means_all_of_it() -> None:
    engine = Engine(SPEC)
    engine.scorpio.use_policy(Scripted(StepPlan(admit=("a", "b"), token_budget=10)))
    engine.add("a", prompt=700)
    engine.add("b", prompt=300)
    assert engine.step().num_scheduled_tokens == {"a": 700}


def test_a_session_with_its_next_input_starts_whole_too() -> None:
    """It holds KV, so vLLM starts it before all others, and none while it does not fit."""
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    session = engine.request("s", prompt=20, output=2)
    session.resumable = True
    engine.scheduler.add_request(session)
    while engine.scheduler.has_requests() and not engine.scheduler.kv_holding_waiting:
        engine.step()
    part = engine.request("s", prompt=200)
    part.resumable = True
    engine.scheduler.add_request(part)
    engine.add("a", prompt=30)
    policy.answer = StepPlan(admit=("a",), token_budget=40)
    assert engine.step().num_scheduled_tokens.keys() == {"s"}
    assert engine.step().num_scheduled_tokens.keys() == {"s", "a"}
