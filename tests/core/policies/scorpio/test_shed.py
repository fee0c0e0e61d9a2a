"""What does shedding a request save, and what do decodes make up? By hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.arrays import FloatArray
from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.borrow import _borrowed_s, _recovery_s
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import prefill_jobs
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.refusals import crowded
from scorpio.core.policies.scorpio.retry_after import Crowd, Told
from scorpio.core.policies.scorpio.shed import QUOTED_WEIGHT, Competition, Outcome, weighed
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.supply import PrefillSupply
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import decode_work_s, prefill_work_s
from tests.conformance.snapshots import Row, running_batch
from tests.core.policies.scorpio.step_scenes import START_S, step_of

MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 1e-5)


def ask(seq: int, tokens: int = 100, arrival_s: float = START_S) -> RequestView:
    return RequestView(
        f"r{seq}", seq, arrival_s, tokens, 512, Slo(5.0), predicted_output_tokens=40.0
    )


def scene(
    waiting: Sequence[RequestView],
    running: Sequence[Row] = (),
    crowd: Crowd | None = None,
    over: FloatArray | None = None,
    share: float = 0.0,
) -> tuple[StepContext, Competition]:
    table = WaitingTable()
    for view in waiting:
        table.add(view, view.deadline_s)
    seen = Snapshot(running_batch(list(running)), table, EngineLimits(8, 100, 8000, 16, 4096), 8000)
    step = step_of(MODEL, seen, prefill_share=share)
    jobs = prefill_jobs(step, None, lambda view: view.deadline_s)
    return step, Competition(jobs, over, crowd or Crowd())


def shed_cost_s(step: StepContext, between: Competition) -> FloatArray:
    return weighed(step, between, between.jobs.cost_s(step.model, step.lengths))


def cost_s(tokens: int) -> float:
    output = LengthBelief(8).expected_of(ask(1))
    return prefill_work_s(MODEL, float(tokens), 0.0) + decode_work_s(MODEL, float(tokens), output)


def test_a_request_costs_its_prefill_and_its_answer() -> None:
    assert shed_cost_s(*scene([ask(1), ask(2, 200)])) == pytest.approx([cost_s(100), cost_s(200)])


def test_one_that_was_told_to_come_back_costs_less() -> None:
    crowd, told = Crowd(), ask(1, arrival_s=50.0)
    crowd.book(50.0, WaitingTable(), [Told(told, 55.0, 50.0, 0.1)])
    step, between = scene([ask(2), ask(3, 200)], crowd=crowd)
    crowd.follow(START_S, step.snapshot.waiting)
    assert crowd.is_back(step.snapshot.waiting.seqs()).tolist() == [True, False]
    assert shed_cost_s(step, between) == pytest.approx([crowd.weight * cost_s(100), cost_s(200)])


def test_one_that_asks_for_what_it_was_quoted_costs_less() -> None:
    quoted = replace(ask(2, 200), quoted=True)
    found = shed_cost_s(*scene([ask(1), quoted]))
    assert found == pytest.approx([cost_s(100), QUOTED_WEIGHT * cost_s(200)])


def test_one_of_a_tenant_with_too_much_costs_more_than_any_other() -> None:
    found = shed_cost_s(*scene([ask(1), ask(2, 200)], over=np.array([1.5, 0.0])))
    assert found == pytest.approx([cost_s(100) + 1.5 * cost_s(200), cost_s(200)])


@pytest.mark.parametrize(
    ("share", "made_up_s"),
    [(0.0, 0.05 - 0.012), (0.5, 0.05 - 0.024), (0.9, 0.02 * 0.05)],  # next to nothing at least
)
def test_decodes_make_up_what_steps_leave_of_their_target(share: float, made_up_s: float) -> None:
    view = RequestView("d", 9, START_S - 1.0, 50, 64, Slo(5.0, 0.05))
    step, _ = scene([ask(1)], [Row(view, 0, False, 100, 100, 3)], share=share)
    assert step.decodes.alone_s == pytest.approx(0.012)
    assert _recovery_s(step) == pytest.approx([made_up_s])


def test_steps_are_borrowed_up_to_the_one_stock_would_make() -> None:
    step, between = scene([ask(1, 60)])
    assert _borrowed_s(step, 0.02, between.jobs) == pytest.approx([0.04, 0.07])
    assert _borrowed_s(step, 0.05, between.jobs) == pytest.approx([0.07])
    assert _borrowed_s(step, math.inf, between.jobs) == pytest.approx([0.07])
    step, between = scene([ask(1, 900)])  # in steps of 100 tokens
    assert _borrowed_s(step, 0.02, between.jobs) == pytest.approx([0.04, 0.11])


@pytest.mark.parametrize(
    ("target_s", "share", "decode_s"),
    [
        (0.100, 0.0, 0.014),  # two decodes of 200 tokens
        (0.020, 0.35, 0.013),  # what the usual prefill leaves
        (0.020, 0.90, 0.012),  # but no less than the decodes of now
    ],
)
def test_later_steps_have_the_decodes_of_those_that_stay(
    target_s: float, share: float, decode_s: float
) -> None:
    found = later(target_s, share)
    assert found.decode_s == pytest.approx(decode_s)
    assert found.first_step_s == pytest.approx(0.1 - 0.012 + decode_s)
    assert found.later_step_s == target_s


def test_answers_end_so_that_in_the_long_run_prefill_has_its_part() -> None:
    """Its part of all work that is no fixed cost."""
    further = LengthBelief(8).expected_of(ask(1)) - 1.0
    part = 0.1 / (0.1 + decode_work_s(MODEL, 100.0, further)) * (1.0 - 0.011 / 0.015)
    assert 0.012 < (1.0 - part) * 0.015 < 0.014
    assert later(0.015, 0.0).decode_s == pytest.approx((1.0 - part) * 0.015)


def later(target_s: float, share: float) -> PrefillSupply:
    """One decode runs; of two prompts of 100 tokens one is shed."""
    view = RequestView("d", 9, START_S - 1.0, 50, 64, Slo(5.0, 0.5))
    step, between = scene([ask(1), ask(2)], [Row(view, 0, False, 100, 100, 3)], share=share)
    found = Outcome(PrefillSupply(START_S, 0.1, 0.012, target_s), np.array([1]))
    return crowded(step, between.jobs, found)
