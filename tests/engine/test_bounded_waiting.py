"""Is any request overtaken for ever? Prompts that need most of the KV pool, beside small ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.deficit import SHARE
from scorpio.core.snapshot import EngineLimits
from scorpio.core.work import full_step_s
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler
from tests.engine.driver import VirtualScheduler
from tests.engine.timed import STEP, Timed, settings

BIG, SMALL, ANSWER = 6_000, 200, 150
SMALL_PER_S = 14.0
# 640 blocks of 16: the big one needs six tenths of them, the small traffic all it can get.
SPEC = EngineSpec(pipeline_depth=1, max_num_batched_tokens=2048, num_blocks=641,
                  max_model_len=10_000, max_num_seqs=64)  # fmt: skip
PATIENCE_S = 5.0
FULL_S = 4.0  # by then the small ones fill the pool
# None of the small ones has a TPOT SLO: steps are as long as the engine's limits allow.
STEP_S = full_step_s(STEP, EngineLimits(64, 2048, 640 * 16, 16, 10_000))
DRAIN_S = ANSWER * STEP_S  # the longest that a running answer still lasts


def run(
    cls: type[AsyncScheduler],
    big: dict[str, object],
    small: dict[str, object],
    seconds: float = 45.0,
    bigs: int = 1,
    until_served: bool = True,
) -> Timed:
    """At most so many seconds of steady small traffic; the big ones come when the pool is full."""
    options = {"policy_options": {"patience_s": PATIENCE_S}}
    engine, number = Timed(scorpio=settings() | options, cls=cls, spec=SPEC), 0
    names = [f"big{n}" for n in range(bigs)]
    while engine.time_s < seconds:
        while number / SMALL_PER_S <= engine.time_s:
            engine.add(f"small{number}", SMALL, ANSWER, **small)
            number += 1
        if engine.time_s >= FULL_S and "big0" not in engine.born_s:
            for name in names:
                engine.add(name, BIG, 4, **big)
        if until_served and all(name in engine.first_s for name in names):
            break
        engine.step()
    return engine


def w_max_s(bigs: int) -> float:
    """docs/guarantees.md: patience, the time until running answers have ended, for each overdue,
    and its prefill at its share of what the decodes leave of a step."""
    work_s = bigs * BIG * STEP.high_token_s
    left = 0.5  # at least, without a TPOT SLO: a full step is more than twice its decodes
    return PATIENCE_S + bigs * DRAIN_S + work_s / (SHARE * left)


@pytest.mark.parametrize(
    ("big", "waits_s"),
    [
        ({"slo_ttft_ms": 10_000.0}, 10.0),  # in time: from half of it on it keeps its blocks free
        ({"slo_ttft_ms": 10_000.0, "slo_on_miss": "wait"}, 10.0),
        ({"slo_ttft_ms": 0.001, "slo_on_miss": "wait"}, w_max_s(1)),
        ({"slo_ttft_ms": 0.001, "slo_on_miss": "degrade"}, w_max_s(1)),
        ({}, w_max_s(1)),
        ({"slo_tpot_ms": 10.5, "slo_on_miss": "wait"}, w_max_s(1)),
    ],
)
def test_a_prompt_that_needs_most_of_the_pool_starts(
    big: dict[str, object], waits_s: float
) -> None:
    engine = run(VirtualScheduler, big, {"slo_ttft_ms": 20_000.0})
    assert "big0" in engine.first_s
    assert engine.ttft_s("big0") <= waits_s


def test_several_start_one_after_the_other() -> None:
    engine = run(VirtualScheduler, {"slo_ttft_ms": 0.001, "slo_on_miss": "wait"},
                 {"slo_ttft_ms": 20_000.0}, 60.0, 3)  # fmt: skip
    assert all(engine.ttft_s(f"big{n}") <= w_max_s(n + 1) for n in range(3))


@pytest.mark.parametrize("threshold", [0, 64])
def test_without_slos_steps_are_as_long_as_stock_s(threshold: int) -> None:
    """Long prompts on an engine that needs seconds for a full step; a part of each in a step, where
    the operator wants that."""
    slow, ended_s = StepModel(0.08, 0.0, 1e-3, 0.0, 0.0, 0.0, 0.0), []
    spec = replace(SPEC, max_num_seqs=8, long_prefill_token_threshold=threshold)
    for cls in (VirtualScheduler, AsyncScheduler):
        engine = Timed(slow, settings(slow), cls, spec)
        for number in range(24):
            engine.add(f"r{number}", 700, 8)
        while engine.scheduler.has_requests():
            engine.step()
        ended_s.append(engine.time_s)
    assert ended_s[0] <= 1.02 * ended_s[1]


def test_without_slos_none_starts_much_later_than_under_stock() -> None:
    ours, stock = (run(cls, {}, {}, 20.0, 3, False) for cls in (VirtualScheduler, AsyncScheduler))
    late_s = {n: ours.ttft_s(n) - stock.ttft_s(n) for n in stock.first_s if n in ours.first_s}
    assert len(late_s) >= 0.98 * len(stock.first_s)
    assert max(late_s.values()) <= 2.0 * STEP_S
