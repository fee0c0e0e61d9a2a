"""Is what we believe to be cached what vLLM will find, and does looking leave no trace?"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from scorpio.core.plan import FinalState, Rejection, RejectReason, StepPlan
from scorpio.core.request import RequestView
from scorpio.engine import seams
from scorpio.engine.view.prefix_hits import PrefixHits
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import Request, abort
from tests.engine.driver import Engine, Scripted

BLOCK = 16
SPEC = EngineSpec(pipeline_depth=1, enable_prefix_caching=True, max_num_batched_tokens=256,
                  num_blocks=400, max_num_seqs=8)  # fmt: skip


def engine_with(spec: EngineSpec = SPEC) -> tuple[Engine, Scripted]:
    engine, policy = Engine(spec), Scripted()
    engine.scorpio.use_policy(policy)
    return engine, policy


def add(engine: Engine, name: str, prompt: int, ids: tuple[int, ...], output: int = 3) -> Request:
    """A prompt whose blocks of 16 tokens start with these."""
    engine.number += 1
    engine.outputs[name] = []
    request = engine.factory.make(
        name, 0.0, prompt, output, {}, prefix_ids=ids, prefix_block_tokens=BLOCK
    )
    engine.runner.expect(name, engine.number, prompt, output)
    engine.scheduler.add_request(request)
    return request


def view_of(engine: Engine, name: str) -> RequestView:
    return engine.scorpio._tracker.live[name].view


def vllm_finds(engine: Engine, request: Request) -> int:
    _, tokens, _ = engine.scheduler.kv_cache_manager.get_computed_blocks(request)
    return int(tokens)


def traces(engine: Engine) -> tuple[Any, ...]:
    """All that a look could have changed."""
    manager = engine.scheduler.kv_cache_manager
    pool, stats = manager.block_pool, manager.prefix_cache_stats
    counts = [(block.block_id, block.ref_cnt) for block in pool.blocks]
    free = [block.block_id for block in pool.free_block_queue.get_all_free_blocks()]
    return counts, free, len(pool.cached_block_hash_to_block), repr(stats)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_vllm_finds_over_random_lives(seed: int) -> None:
    """Random shared prefixes in a pool so small that it evicts all the time; followed values are
    those of vLLM's own search in each step, for the queue is shorter than what is looked at."""
    rng = random.Random(seed)
    engine, _ = engine_with(replace(SPEC, num_blocks=60, max_model_len=700))
    trees = [tuple(rng.randrange(10**6) for _ in range(40)) for _ in range(4)]
    hits = 0
    for number in range(150):
        if rng.random() < 0.6:
            tree, deep = rng.choice(trees), rng.randint(0, 40)
            prompt = rng.choice([max(deep * BLOCK, 1), rng.randint(1, 690)])
            request = add(engine, f"r{number}", min(prompt, 690), tree[:deep], rng.randint(1, 9))
            assert view_of(engine, request.request_id).cached_tokens == vllm_finds(engine, request)
            hits += view_of(engine, request.request_id).cached_tokens > 0
        if rng.random() < 0.1 and engine.scheduler.requests:
            abort(engine.scheduler, rng.choice(sorted(engine.scheduler.requests)))
        scorpio = engine.scorpio
        before = traces(engine)
        assert scorpio._prefix_hits is not None
        where = scorpio.waiting.table, scorpio.requests, scorpio._tracker.live, scorpio.running
        scorpio._prefix_hits.follow(*where)
        assert traces(engine) == before
        for request in scorpio.waiting:
            view = scorpio.waiting.table[scorpio.waiting.table._row_of(request.request_id)]
            assert view is view_of(engine, request.request_id)
            if not request.num_preemptions:  # else its outputs count too
                assert view.cached_tokens == vllm_finds(engine, request)
            assert 0 <= view.cached_tokens < view.prompt_tokens
        engine.step()
    assert hits > 5
    engine.drain()
    engine.assert_drained()


def test_a_wholly_cached_prompt_still_computes_its_last_block() -> None:
    engine, _ = engine_with()
    add(engine, "a", 64, (1, 2, 3, 4))
    engine.drain()
    add(engine, "b", 64, (1, 2, 3, 4))
    assert view_of(engine, "b").cached_tokens == 48
    assert engine.step().num_scheduled_tokens == {"b": 16}


def test_a_sibling_fills_the_cache_while_one_waits() -> None:
    engine, policy = engine_with()
    add(engine, "a", 640, tuple(range(40)))
    add(engine, "b", 660, tuple(range(40)))
    policy.answer = StepPlan(admit=("a",))
    engine.step()
    assert view_of(engine, "b").cached_tokens == 0
    engine.step()
    engine.step()
    assert policy.seen is not None
    assert policy.seen.waiting.cached_tokens.tolist() == [512]  # two chunks of 256 were computed
    assert policy.seen.waiting.prefill_tokens.tolist() == [148]
    assert policy.seen.waiting[0].prefill_tokens == 148


@pytest.mark.parametrize("reason", [RejectReason.TTFT_INFEASIBLE, RejectReason.TPOT_INFEASIBLE])
def test_no_request_is_refused_for_work_that_the_cache_has_done(reason: RejectReason) -> None:
    """More wait than are looked at in one step, so the last one is a stale belief."""
    engine, policy = engine_with()
    add(engine, "a", 64, (1, 2, 3, 4))
    policy.answer = StepPlan(admit=())
    hits = engine.scorpio._prefix_hits
    assert hits is not None
    for number in range(40):
        add(engine, f"w{number}", 64, (9_000 + number,))
    add(engine, "z", 80, (1, 2, 3, 4, 5))
    hits.gone("z")  # it is not known to follow a, or it would be looked at with it
    policy.answer = StepPlan(admit=("a",))
    engine.step()
    hits._next_row = 0
    policy.answer = StepPlan(admit=(), reject=(Rejection("z", reason), Rejection("w1", reason)))
    engine.step()
    refused = engine.scorpio.telemetry.outcomes.total(FinalState.REJECTED)
    spared = reason is RejectReason.TTFT_INFEASIBLE
    assert ("z" in engine.scheduler.requests) is spared
    assert refused == (1 if spared else 2)
    if spared:
        assert view_of(engine, "z").cached_tokens == 64
        policy.answer = StepPlan(admit=(), reject=(Rejection("z", reason),))
        engine.step()  # nothing new since: the policy has its way
        assert "z" not in engine.scheduler.requests


def test_a_look_that_fails_is_counted_and_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: object) -> int:
        raise RuntimeError("no hashes")

    engine, policy = engine_with()
    add(engine, "a", 64, (1, 2, 3, 4))
    engine.drain()
    monkeypatch.setattr(PrefixHits, "_tokens", broken)
    add(engine, "b", 64, (1, 2, 3, 4))
    assert view_of(engine, "b").cached_tokens == 0
    add(engine, "c", 64, (1, 2, 3, 4))
    engine.drain()
    assert engine.scorpio.telemetry.fallbacks == 1
    assert policy.seen is not None  # the policy is not switched off by it
    engine.assert_drained()


def test_nothing_is_looked_up_without_prefix_caching_or_by_request() -> None:
    engine, _ = engine_with(replace(SPEC, enable_prefix_caching=False))
    assert engine.scorpio._prefix_hits is None
    engine, _ = engine_with()
    add(engine, "a", 64, (1, 2, 3, 4))
    engine.drain()
    request = engine.factory.make("b", 0.0, 64, 2, {}, prefix_ids=(1, 2), prefix_block_tokens=BLOCK)
    request.skip_reading_prefix_cache = True  # what prompt_logprobs does
    engine.runner.expect("b", 99, 64, 2)
    engine.scheduler.add_request(request)
    assert view_of(engine, "b").cached_tokens == 0


def test_the_lookups_are_checked_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {**seams.LOOKUPS, "block_pool.get_cached_block": ("something_else",)}
    monkeypatch.setattr(seams, "LOOKUPS", changed)
    with pytest.raises(seams.IncompatibleVllmError, match="get_cached_block"):
        Engine(SPEC)
