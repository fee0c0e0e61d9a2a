"""Mamba layers together with all else: drafts, images, adapters, shared prefixes, tiny budgets.
Does each request end, does each step do something, and is what is told of it true?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.plan import StepPlan
from scorpio.core.registry import policy_names
from scorpio.core.snapshot import Snapshot
from scorpio.engine.view.picture import engine_limits
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler, Scheduler
from tests.engine.drafting import DraftingEngine
from tests.engine.driver import Engine
from tests.engine.picturing import PicturingEngine
from tests.engine.test_mamba import ALIGN, KINDS, SLOS
from tests.engine.timed import Timed, settings
from tests.engine_server import PROFILE


def spec(**more: Any) -> EngineSpec:
    small: dict[str, Any] = {
        "pipeline_depth": 1, "block_size": 32, "num_blocks": 60, "max_num_seqs": 8,
        "max_num_batched_tokens": 64, "max_model_len": 512, "mamba_groups": 1, **ALIGN,
    }  # fmt: skip
    return EngineSpec(**{**small, **more})


def believing(policy: str) -> dict[str, Any]:
    return {"policy": policy, "latency": PROFILE.to_dict()}


@pytest.mark.parametrize("budget", [8, 20, 31, 32, 33, 40, 100])
@pytest.mark.parametrize("policy", policy_names())
def test_each_step_does_something(policy: str, budget: int) -> None:
    """Budgets below, at and above a block of 32; prompts share beginnings."""
    engine = Engine(spec(max_num_batched_tokens=budget), believing(policy))
    random_ = Random(budget)
    for number in range(30):
        more = {"prefix_ids": [random_.randrange(3)], "prefix_block_tokens": 96}
        slo = random_.choice(SLOS)
        prompt, output = random_.randrange(1, 300), random_.randrange(1, 40)
        engine.add(f"r{number}", prompt, output, more=more, slo_on_miss="wait", **slo)
        for _ in range(random_.randrange(4)):
            engine.step(random_.choice((0.002, 0.03)))
    while engine.scheduler.has_requests():
        assert engine.step().num_scheduled_tokens or not engine.scheduler.has_unfinished_requests()
    engine.assert_drained()
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("depth", [1, 2])
def test_fcfs_is_stock_vllm_step_for_step(depth: Any, name: str) -> None:
    which = spec(**{"mamba_cache_mode": "none", "enable_prefix_caching": False, **KINDS[name]})
    which = EngineSpec(
        **{**{f: getattr(which, f) for f in which.__slots__}, "pipeline_depth": depth}
    )
    stock_cls = AsyncScheduler if depth == 2 else Scheduler
    ours, stock = Engine(which), Engine(which, cls=stock_cls)
    random_ = Random(7)
    for step in range(200):
        if random_.random() < 0.4 and step < 120:
            sizes = random_.randrange(1, 300), random_.randrange(1, 40)
            for engine in (ours, stock):
                engine.add(f"r{step}", *sizes, slo_ttft_ms=1.0, slo_tpot_ms=1.0)
        assert ours.step().num_scheduled_tokens == stock.step().num_scheduled_tokens
    ours.drain()
    ours.assert_drained()


@pytest.mark.parametrize("policy", ["scorpio", "scorpio-paper", "qoserve", "edf"])
def test_with_drafts(policy: str) -> None:
    engine = DraftingEngine(spec(num_speculative_tokens=3), believing(policy))
    engine.serve_crowd(Random(4), 40, (300, 60), SLOS)


@pytest.mark.parametrize("policy", ["scorpio", "scorpio-paper", "qoserve", "edf"])
def test_with_images(policy: str) -> None:
    engine = PicturingEngine(spec(), believing(policy), budget=100, cache=150)
    random_ = Random(5)
    for number in range(40):
        engine.add_any(random_, f"r{number}", 100, slo_on_miss="wait", **random_.choice(SLOS))
        for _ in range(random_.randrange(4)):
            engine.step(random_.choice((0.002, 0.03)))
    engine.drain()
    engine.assert_all_served()
    assert engine.scorpio.telemetry.fallbacks == 0


@pytest.mark.parametrize("policy", ["scorpio", "scorpio-paper", "qoserve", "edf"])
def test_with_adapters(policy: str) -> None:
    engine = Engine(spec(max_loras=1), believing(policy))
    random_ = Random(6)
    for number in range(30):
        sizes = random_.randrange(1, 300), random_.randrange(1, 30)
        slo = random_.choice(SLOS)
        engine.add(f"r{number}", *sizes, adapter=random_.randrange(3), slo_on_miss="wait", **slo)
        engine.step(random_.choice((0.002, 0.03)))
    engine.drain()
    engine.assert_drained()
    assert engine.scorpio.telemetry.fallbacks == 0


STEP = StepModel(0.010, 0.0, 1e-4, 0.0, 0.0, 0.0, 1e-7)
LARGE = EngineSpec(
    pipeline_depth=1, block_size=256, num_blocks=200, max_num_batched_tokens=2048, max_num_seqs=64,
    max_model_len=4096, mamba_groups=1, **ALIGN,
)  # fmt: skip


@pytest.mark.parametrize("light_share", [0.0, 0.7])
@pytest.mark.parametrize("prompt", [100, 256, 257, 1000, 1500])
def test_the_first_token_comes_when_it_was_told(prompt: int, light_share: float) -> None:
    """A prompt of several blocks takes a step more than its tokens would."""
    options = {"light_share": light_share}
    engine = Timed(STEP, settings(STEP, policy_options=options), spec=LARGE)
    engine.add("a", prompt, 20, slo_ttft_ms=2000.0)
    steps = 1
    engine.step()
    tracked = engine.scorpio._tracker.live["a"]
    while "a" not in engine.first_s:
        engine.step()
        steps += 1
    assert steps == (1 if prompt <= 256 else 2)
    assert tracked.forecast is not None
    assert tracked.forecast.ttft_s == pytest.approx(engine.ttft_s("a"), abs=0.005)


def test_the_chunk_of_a_plan_is_the_one_that_is_computed() -> None:
    """Beside decodes of a tight TPOT SLO, `scorpio` plans parts that vLLM computes as they are."""
    engine = Timed(STEP, settings(STEP, policy_options={"light_share": 0.0}), spec=LARGE)
    for number in range(20):
        engine.add(f"d{number}", 20, 300, slo_tpot_ms=40.0)
    for _ in range(3):
        engine.step()
    engine.add("long", 3000, 4, slo_ttft_ms=9e3)
    assert engine_limits(engine.scheduler).tail_apart
    started_s = engine.time_s
    planned: list[int] = []
    scheduler = engine.scorpio
    plan = scheduler._policy.plan

    def watched(now_s: float, snapshot: Snapshot) -> StepPlan:
        made = plan(now_s, snapshot)
        planned.append(made.token_budget or 0)
        return made

    scheduler._policy.plan = watched  # type: ignore[method-assign]
    while "long" not in engine.first_s:
        step = engine.step()
        if "long" in step.num_scheduled_tokens:
            assert step.total_num_scheduled_tokens == planned[-1]
    assert engine.time_s - started_s < 2.0
