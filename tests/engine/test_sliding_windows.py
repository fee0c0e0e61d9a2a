"""Models whose layers differ in how far they look back (gpt-oss, Gemma): one pool of blocks, and
several groups that draw on it. Is a token counted as what it takes, and does every request end?"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from scorpio.engine.view.picture import engine_limits
from scorpio.engine.virtual.build import EngineSpec
from tests.engine.driver import Engine, Scripted
from tests.engine_server import PROFILE

WINDOW = 64
SPEC = EngineSpec(pipeline_depth=1, sliding_window=WINDOW, max_model_len=512, num_blocks=101)


def test_a_token_takes_a_place_in_each_group() -> None:
    """Of 100 blocks a request of 512 tokens takes 32 for full attention, and for the window what is
    in it and the step's own: less than twice as many."""
    full = engine_limits(Engine(EngineSpec(max_model_len=512, num_blocks=101)).scheduler)
    both = engine_limits(Engine(SPEC).scheduler)
    assert full.kv_tokens == 1600
    assert 512 <= both.kv_tokens < full.kv_tokens
    assert both.kv_tokens == Engine(SPEC).scheduler.cache_config.kv_cache_size_tokens


def test_free_tokens_are_counted_like_the_pool() -> None:
    engine = Engine(SPEC)
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=160, output=8)
    engine.step()
    free = engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    engine.step()
    assert policy.seen is not None
    assert policy.seen.kv_free_tokens == free * policy.seen.limits.kv_tokens // 100
    assert policy.seen.kv_free_tokens < policy.seen.limits.kv_tokens


@pytest.mark.parametrize(("prompt", "blocks"), [(10, 2), (40, 6), (60, 10), (160, 16), (400, 31)])
def test_a_request_holds_what_is_in_its_window(prompt: int, blocks: int) -> None:
    """Of a short one both groups hold all; of a long one the window's holds five blocks at most."""
    engine = Engine(SPEC)
    engine.add("a", prompt=prompt, output=8)
    for _ in range(6):
        engine.step()
    held = 100 - engine.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    limits = engine_limits(engine.scheduler)
    said = limits.kv_need.of(prompt + 6.0) * 100 / limits.kv_tokens
    assert said == pytest.approx(blocks)
    assert said - 1 <= held <= said


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("policy", ["scorpio", "edf", "qoserve", "mooncake", "scorpio-paper"])
def test_every_request_gets_its_tokens(policy: str, caching: bool) -> None:
    spec = EngineSpec(
        pipeline_depth=2, sliding_window=WINDOW, max_model_len=512, num_blocks=60,
        max_num_seqs=8, max_num_batched_tokens=128, enable_prefix_caching=caching,
    )  # fmt: skip
    engine = Engine(spec, {"policy": policy, "latency": PROFILE.to_dict()})
    slos: tuple[Any, ...] = ({}, {"slo_tpot_ms": 25.0}, {"slo_ttft_ms": 9e3})
    engine.serve_crowd(Random(3), 50, (300, 60), slos)
