"""Who finds KV, now and when all answers have grown? Each rule with the number where it ends."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import running_batch
from tests.core.policies.scorpio.step_scenes import step_of
from tests.core.policies.scorpio.test_admission import MODEL, START_S, ask, decode


def holding(tokens: int, answer: int, **facts: Any) -> tuple[Admission, StepContext]:
    """A pool of 8,000 tokens beside one answer that holds so many and has so many to go."""
    row = decode(0, tokens)
    row = replace(row, view=replace(row.view, max_tokens=2 + answer))
    limits = EngineLimits(8, 256, 8000, 16, 16_384)
    scene = Snapshot(running_batch((row,)), WaitingTable(), limits, 8000 - tokens)
    step = step_of(MODEL, scene, START_S, 40.0, 1.0, **({"promised": True} | facts))
    return Admission(step), step


def test_a_request_joins_while_kv_suffices_for_all_answers_at_their_peak() -> None:
    """Both are held at moment 0 for sure; 0.97 of 8,000 tokens are 7,760."""
    batch, _ = holding(5000, 1)
    assert batch.takes(ask(tokens=2760, max_tokens=1))
    assert not batch.takes(ask(tokens=2761, max_tokens=1))
    assert batch.kv.lasts
    batch.join(ask(tokens=2761, max_tokens=1))
    assert not batch.kv.lasts


def test_what_answers_will_add_counts() -> None:
    short, long = ask(tokens=2000, max_tokens=1), ask(tokens=2000, max_tokens=8000)
    batch, _ = holding(5000, 8000)
    assert batch.takes(short)
    assert not batch.takes(replace(long, predicted_output_tokens=6000.0))


def test_what_running_requests_hold_already_needs_no_room() -> None:
    batch, _ = holding(5000, 1)
    assert not batch.takes(ask(tokens=3500, max_tokens=1))
    assert batch.takes(ask(tokens=3500, max_tokens=1, cached_tokens=1000, held_tokens=1000))


def test_the_one_that_has_waited_longest_only_needs_room_for_its_prompt() -> None:
    batch, _ = holding(5000, 8000)
    last = ask(tokens=2990, max_tokens=8000, predicted_output_tokens=6000.0)
    assert not batch.takes(last)
    batch.keep_for(last)
    assert batch.takes(last)


@pytest.mark.parametrize(
    ("price", "value", "joins"),
    [(math.inf, 1.0, True), (250_001.0, 1.0, True), (249_999.0, 1.0, False), (1e5, 3.0, True)],
)
def test_one_dear_in_kv_takes_what_lies_idle(price: float, value: float, joins: bool) -> None:
    """2,450 tokens and 100 to come are 250,000 token-steps; with it more than half is held."""
    batch, step = holding(2000, 1, kv_price=price)
    step.lengths.mean_tokens = 100.0
    request = ask(tokens=2450, max_tokens=1000, predicted_output_tokens=math.nan)
    request = replace(request, slo=replace(request.slo, value=value))
    assert batch.takes(request) is joins
    idle, _ = holding(1000, 1, kv_price=price)
    assert idle.takes(request)


def test_without_deadlines_only_prompts_count_as_in_stock_vllm() -> None:
    """A preemption breaks no promise then, and waiting would only be longer."""
    batch, _ = holding(5000, 8000, promised=False, kv_price=1.0)
    assert batch.takes(ask(tokens=2990, max_tokens=8000, predicted_output_tokens=6000.0))
    batch.join(ask(tokens=2990, max_tokens=8000))
    assert batch.kv.lasts


def test_with_more_of_the_pool_than_there_is_only_prompts_count() -> None:
    batch, _ = holding(5000, 8000, options=ScorpioOptions(kv_share=10.0))
    assert batch.takes(ask(tokens=2990, max_tokens=8000, predicted_output_tokens=6000.0))
    assert not batch.takes(ask(tokens=3000, max_tokens=1))


def test_kv_comes_free_as_answers_end_and_then_with_every_mean_answer() -> None:
    """Beside 5,000 tokens of one answer: 2,760 of 7,760 are free. A usual step takes 61 ms."""
    batch, step = holding(5000, 1)
    step.lengths.mean_tokens = 100.0
    at_s = batch.kv.free_s(np.array([2000.0, 2761.0, 7760.0, 15_520.0])) - START_S
    usual_s = step.usual_step_s()
    assert usual_s == pytest.approx(0.061)
    assert (at_s / usual_s).tolist() == pytest.approx([0.0, 16.0, 16.0, 200.0])


def test_a_usual_step_has_the_prefill_of_late_but_no_more_than_that() -> None:
    _, step = holding(5000, 1, prefill_share=0.5)
    assert step.usual_step_s() == pytest.approx(0.122)
    _, step = holding(5000, 1, prefill_share=0.99)
    assert step.usual_step_s() == pytest.approx(0.061 / 0.3)
