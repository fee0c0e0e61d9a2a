"""Models with Mamba layers, alone or beside attention: are chunks cut to nothing, is KV counted as
what it takes, and does every request end, whatever the policy?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.core.plan import StepPlan
from scorpio.core.registry import policy_names
from scorpio.engine.view.kv_groups import fits
from scorpio.engine.view.picture import engine_limits
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted
from tests.engine_server import PROFILE

BLOCK = 64
SMALL: dict[str, Any] = {"pipeline_depth": 1, "max_model_len": 1024, "block_size": BLOCK}
ALIGN: dict[str, Any] = {"enable_prefix_caching": True, "mamba_cache_mode": "align"}
HYBRID = EngineSpec(**SMALL, **ALIGN, mamba_groups=1, num_blocks=801)
KINDS: dict[str, dict[str, Any]] = {
    "hybrid": {**ALIGN, "mamba_groups": 1},
    "hybrid, three groups": {**ALIGN, "mamba_groups": 3},
    "hybrid, not cached": {"mamba_groups": 2},
    "hybrid with windows": {**ALIGN, "mamba_groups": 1, "sliding_window": 100},
    "without attention": {**ALIGN, "mamba_groups": 1, "attention": False},
    "without attention, not cached": {"mamba_groups": 1, "attention": False},
}


def scripted(spec: EngineSpec, **plan: Any) -> tuple[Engine, Scripted]:
    engine, policy = Engine(spec), Scripted(StepPlan(**plan))
    engine.scorpio.use_policy(policy)
    return engine, policy


def long_beside(decodes: int, chunk: int, prompt: int) -> Engine:
    """So many decodes run, and a plan leaves `chunk` tokens of the step to a prompt that waits."""
    engine, policy = scripted(HYBRID, token_budget=1000)
    for number in range(decodes):
        engine.add(f"d{number}", prompt=1, output=400)
    engine.step()
    policy.answer = StepPlan(token_budget=decodes + chunk)
    engine.add("long", prompt=prompt, output=2)
    return engine


@pytest.mark.parametrize("beside", [0, 1, 20])
@pytest.mark.parametrize("chunk", [1, 5, 63, 64, 65, 100, 127])
def test_a_chunk_is_never_cut_to_nothing(chunk: int, beside: int) -> None:
    """Whatever a plan leaves a prompt beside decodes, some of it is computed in each step: what it
    was given or less, or what it lacks to the next boundary."""
    engine = long_beside(beside, chunk, prompt=300)
    long, computed = engine.scheduler.requests["long"], 0
    for _ in range(300):
        step = engine.step()
        part = long.num_computed_tokens - computed
        assert 0 < part <= max(chunk, BLOCK)
        assert step.total_num_scheduled_tokens == part + beside
        computed = long.num_computed_tokens
        if computed >= 300:
            break
    assert computed == 300


def test_without_it_a_prompt_gets_nothing_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that is planted: the budget goes to vLLM as the plan has it."""
    monkeypatch.setattr(
        "scorpio.engine.apply.budget_in_blocks",
        lambda scheduler, *_: scheduler.max_num_scheduled_tokens,
    )
    engine = long_beside(20, 50, prompt=600)
    assert all("long" not in engine.step().num_scheduled_tokens for _ in range(100))


def test_a_budget_below_a_block_is_what_is_computed() -> None:
    engine, _ = scripted(HYBRID, token_budget=20)
    engine.add("long", prompt=200, output=2)
    parts = [engine.step().num_scheduled_tokens["long"] for _ in range(4)]
    assert parts == [20, 20, 20, 4]  # to the boundary


@pytest.mark.parametrize(
    ("beside", "chunk", "part"),
    [
        (20, 50, 43),  # 70 tokens are more than a block: one less than a block is near enough
        (20, 90, 64),  # reaches the boundary
        (60, 50, 64),  # 3 would be left: to the boundary instead
        (60, 4, 3),
    ],
)
def test_what_is_given_instead(beside: int, chunk: int, part: int) -> None:
    engine = long_beside(beside, chunk, prompt=600)
    assert engine.step().num_scheduled_tokens["long"] == part


def test_one_that_runs_goes_on_too() -> None:
    """What vLLM does with a running prefill that gets nothing is another thing than with one that
    waits: it goes on to the next."""
    engine, policy = scripted(HYBRID, token_budget=1000)
    for number in range(40):
        engine.add(f"d{number}", prompt=1, output=400)
    engine.step()
    engine.add("long", prompt=600, output=2)
    policy.answer = StepPlan(token_budget=40 + 64)
    assert engine.step().num_scheduled_tokens["long"] == 64
    policy.answer = StepPlan(token_budget=40 + 60)
    assert engine.step().num_scheduled_tokens["long"] == 64  # of 23 or 64, 64 is what was meant


def test_the_engines_own_budget_bounds_it() -> None:
    spec = EngineSpec(
        **SMALL, **ALIGN, mamba_groups=1, num_blocks=400, max_num_batched_tokens=80,
        max_num_seqs=64,
    )  # fmt: skip
    engine, policy = scripted(spec)
    for number in range(50):
        engine.add(f"d{number}", prompt=1, output=400)
    engine.step()
    policy.answer = StepPlan(token_budget=80)
    engine.add("long", prompt=600, output=2)
    assert engine.step().num_scheduled_tokens["long"] == 13  # 64 have no place beside 50


def test_a_request_holds_a_state_and_whole_blocks() -> None:
    """A request of 100 tokens: two blocks of attention and one state of each group."""
    limits = engine_limits(Engine(EngineSpec(**SMALL, **ALIGN, mamba_groups=3)).scheduler)
    per_block = limits.kv_tokens / (limits.kv_need.pool_blocks)
    assert limits.kv_need.of(100.0) == pytest.approx(per_block * 5)
    assert limits.kv_need.of(1000.0) == pytest.approx(per_block * (16 + 3))
    assert per_block < BLOCK  # vLLM's own count of the pool: as if all were of the longest kind


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("prompt", [10, 100, 640, 900])
def test_what_is_held_is_what_was_said(name: str, prompt: int) -> None:
    """Of requests that decode, counted in vLLM's own blocks: no less, and at most a block more in
    each group."""
    spec = EngineSpec(**{**SMALL, **KINDS[name]}, num_blocks=201)
    engine = Engine(spec)
    limits = engine_limits(engine.scheduler)
    pool = engine.scheduler.kv_cache_manager.block_pool
    engine.add("a", prompt=prompt, output=8)
    for _ in range(6):
        engine.step()
    held = 200 - pool.get_num_free_blocks()
    managers = engine.scheduler.kv_cache_manager.coordinator.single_type_managers
    said = limits.kv_need.of(prompt + 6.0) * 200 / limits.kv_tokens
    assert said - len(managers) <= held <= said + len(managers)


def test_a_pool_that_is_just_large_enough_refuses_nothing() -> None:
    """Two blocks of attention and a state: 128 tokens are no more than it has."""
    spec = EngineSpec(
        pipeline_depth=1, block_size=BLOCK, num_blocks=4, mamba_groups=1, max_model_len=128
    )
    engine = Engine(spec, {"policy": "scorpio", "latency": PROFILE.to_dict()})
    limits = engine_limits(engine.scheduler)
    assert not limits.never_fits(127.0)
    assert fits(engine.scheduler, 128, limits.kv_tokens, limits.kv_need)
    assert not fits(engine.scheduler, 129, limits.kv_tokens, limits.kv_need)
    engine.add("a", prompt=120, output=8, slo_ttft_ms=9e3)
    engine.add("b", prompt=120, output=8, slo_ttft_ms=9e3)
    engine.drain()
    assert [len(engine.tokens(name)) for name in "ab"] == [8, 8]
    engine.assert_drained()


SLOS: tuple[Any, ...] = ({}, {"slo_tpot_ms": 25.0}, {"slo_ttft_ms": 9e3}, {"slo_ttft_ms": 300.0})


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("policy", policy_names())
def test_every_request_gets_its_tokens(policy: str, name: str) -> None:
    """A tiny pool, a budget little longer than a block, prompts of many blocks."""
    spec = EngineSpec(
        **{**SMALL, **KINDS[name], "pipeline_depth": 2}, num_blocks=60, max_num_seqs=8,
        max_num_batched_tokens=96,
    )  # fmt: skip
    engine = Engine(spec, {"policy": policy, "latency": PROFILE.to_dict()})
    engine.serve_crowd(Random(3), 40, (400, 60), SLOS)
