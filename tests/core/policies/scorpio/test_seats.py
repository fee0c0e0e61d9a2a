"""When does a seat become free? Where ends of answers are known, and where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import prefill_jobs
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.seats import Seats, seats
from scorpio.core.policies.scorpio.shed import Competition, shed
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import full_step_s
from tests.conformance.snapshots import (
    NOW_S,
    PROFILES,
    Row,
    limits,
    policy_for,
    profile,
    proven,
    running_batch,
)
from tests.core.policies.scorpio.step_scenes import START_S, step_of

MODEL = StepModel(0.010, 0.0, 0.0, 1e9, 0.0, 0.0, 0.0)  # each step takes 10 ms
LEFT = (16, 61, 205, 461)  # tokens that the answers of the batch have left, moments of the forecast


def scene(ttft_s: tuple[float, ...] = (5.0,) * 4, predicted: tuple[float, ...] = ()) -> StepContext:
    running = []
    for slot, left in enumerate(LEFT):
        # An answer so near its limit, and so much longer than any, ends there.
        view = RequestView(f"d{slot}", slot, START_S - 2.0, 50, 100_000 + left, Slo(10.0))
        running.append(Row(view, slot, False, 50, 100_050, 100_000))
    table = WaitingTable()
    for number, slo_s in enumerate(ttft_s):
        told = predicted[number] if predicted else 100.0
        view = RequestView(
            f"w{number}", 10 + number, START_S, 10, 200, Slo(slo_s), predicted_output_tokens=told
        )
        table.add(view, view.deadline_s)
    engine = EngineLimits(len(LEFT), 2048, 1_000_000, 16, 200_000)
    return step_of(MODEL, Snapshot(running_batch(running), table, engine, 500_000))


def test_seats_come_as_answers_end() -> None:
    found = Seats(scene()).free_s(np.array([1.0, 2.0])) - START_S
    # With the second and the third one's end; of the first, between two moments, a part counts.
    assert found[0] < found[1] < LEFT[2] * 0.010


def test_a_line_longer_than_the_batch_moves_at_the_rate_of_answers() -> None:
    step = scene()
    free_s = Seats(step).free_s(np.array([1000.0, 2000.0])) - START_S
    each_s = step.lengths.mean_tokens / len(LEFT) * 0.010
    assert free_s[1] - free_s[0] == pytest.approx(1000.0 * each_s, rel=1e-6)


def test_a_seat_that_is_free_is_free_now() -> None:
    """An idle engine, and a burst of more than it has seats."""
    step = scene((5.0,) * 6)
    seen = replace(step.snapshot, running=running_batch([]))
    found = Seats(step_of(MODEL, seen)).free_s(np.array([1.0, 4.0, 5.0, 6.0])) - START_S
    assert found[:2].tolist() == [0.0, 0.0]
    assert 0.0 < found[2] < found[3] < step.lengths.mean_tokens * 0.010


def test_a_burst_on_an_idle_engine_is_not_refused() -> None:
    table = WaitingTable()
    for number in range(10):
        view = RequestView(f"w{number}", number, NOW_S, 10, 200, Slo(5.0, 0.1))
        table.add(view, view.deadline_s)
    policy = proven(policy_for("scorpio", limits(max_num_seqs=8)), PROFILES["a100"])
    seen = Snapshot(running_batch([]), table, limits(max_num_seqs=8), 200_000)
    made = policy.plan(NOW_S, seen)
    assert not made.reject
    assert len(made.admit or ()) == 8


def test_where_all_find_a_seat_none_is_asked() -> None:
    assert seats(scene(())) is None
    assert seats(scene()) is not None


def test_the_longest_goes_when_not_all_find_a_seat_in_time() -> None:
    """Prefill is next to nothing, so only seats are short."""
    step = scene((0.6, 0.6, 0.6, 0.6), (50.0, 190.0, 50.0, 50.0))
    jobs = prefill_jobs(step, None, lambda view: view.deadline_s)
    supply = step.supply(0.1, 0.1)
    without = Competition(jobs, None, Crowd())
    assert len(shed(step, without, supply).shed_jobs) == 0
    found = shed(step, Competition(jobs, None, Crowd(), seats(step)), supply).shed_jobs
    assert found[0] == 1


def test_of_equal_ones_the_last_goes() -> None:
    step = scene((0.8, 0.8, 0.8, 0.8))
    jobs = prefill_jobs(step, None, lambda view: view.deadline_s)
    found = shed(step, Competition(jobs, None, Crowd(), seats(step)), step.supply(0.1, 0.1))
    assert found.shed_jobs.tolist() == [3]


def test_a_time_is_told_though_the_longest_step_is_longer_than_the_slo() -> None:
    """Without a TPOT SLO a step may take seconds, but prompts are short, and so are steps."""
    slow, engine = profile(0.010, 5e-3, 5e-3, 0.0), limits(max_num_seqs=8)
    running = [
        Row(RequestView(f"d{n}", n, NOW_S - 1.0, 2, 20, Slo(5.0)), n, False, 12, 2, 10)
        for n in range(8)
    ]
    table = WaitingTable()
    for number in range(40):
        view = RequestView(f"w{number}", 10 + number, NOW_S, 2, 20, Slo(2.0))
        table.add(view, view.deadline_s)
    seen = Snapshot(running_batch(running), table, engine, 100_000)
    assert 2.0 * full_step_s(slow.step, engine) > 2.0  # of which twice is asked at first
    made = proven(Scorpio(slow, engine, ScorpioOptions()), slow).plan(NOW_S, seen)
    assert made.reject
    assert all(refusal.retry_after_s is not None for refusal in made.reject[:4])
