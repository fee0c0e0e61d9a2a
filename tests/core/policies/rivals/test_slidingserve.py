"""`slidingserve`: its key of several levels, the knapsack and the window of two steps, by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.latency import StepModel
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.backlog import Backlog
from scorpio.core.policies.rivals.slidingserve.chunker import Window
from scorpio.core.policies.rivals.slidingserve.knapsack import in_time
from scorpio.core.policies.rivals.slidingserve.priority import PriorityOrder
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.registry import PolicyInputs, make_policy
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import (
    NOW_S,
    PROFILES,
    Row,
    Scene,
    limits,
    running_batch,
    snapshot,
)

LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)


def ask(name: str, slo: Slo, prompt: int = 100, waited_s: float = 0.0) -> RequestView:
    return RequestView(name, int(name[1:]), NOW_S - waited_s, prompt, 4000, slo)


def decode(name: str, tpot_s: float, output: int = 9) -> Row:
    view = ask(name, Slo(1.0, tpot_s), 100, 0.1 + 0.05 * (output - 1))
    return Row(view, int(name[1:]), False, 500, 100, output)


def seen(
    *waiting: RequestView, running: tuple[Row, ...] = (), token_budget: int = 2048
) -> Snapshot:
    table = WaitingTable()
    for view in waiting:
        table.add(view, view.deadline_s)
    engine = limits(8, token_budget, 100_000)
    return Snapshot(running_batch(running), table, engine, 100_000)


def plan(*waiting: RequestView, running: tuple[Row, ...] = (), **options: float) -> StepPlan:
    policy = make_policy("slidingserve", PolicyInputs(PROFILES["a100"], LIMITS, options))
    scene = Scene(LIMITS, running, tuple((v, False) for v in waiting), NOW_S)
    return policy.plan(NOW_S, snapshot(policy, scene))


def names(snap: Snapshot, order: list[int]) -> list[str]:
    return [snap.waiting[row].request_id for row in order]


def test_nothing_to_prefill_is_a_stock_step() -> None:
    assert plan() is STOCK_STEP
    assert plan(running=(decode("r1", 0.05),)) is STOCK_STEP


def test_one_that_is_lost_goes_last_and_is_not_refused() -> None:
    answer = plan(ask("r1", Slo(0.5), 100, waited_s=1.0), ask("r2", Slo(9.0), 200))
    assert answer.admit == ["r2", "r1"]
    assert not answer.reject


def test_urgency_in_levels_then_the_work_that_is_left() -> None:
    # 1 ms a token. Time to spare: r1 0.8, r2 0.85, r3 1.95 s: with levels of 1 s the first two are
    # alike and the shorter goes first, with finer ones the one that is due first.
    snap = seen(ask("r1", Slo(1.0), 200), ask("r2", Slo(0.9), 50), ask("r3", Slo(2.0), 50))
    backlog = Backlog.of(snap)
    assert names(snap, PriorityOrder(1.0).order(backlog, NOW_S, 0.001)) == ["r2", "r1", "r3"]
    assert names(snap, PriorityOrder(0.01).order(backlog, NOW_S, 0.001)) == ["r1", "r2", "r3"]


def test_when_a_ttft_is_at_risk_the_knapsack_says_whose_is_kept() -> None:
    # r1 takes 0.9 s of the second in which r2 and r3, 0.5 s each, could both be in time.
    snap = seen(ask("r1", Slo(0.95), 900), ask("r2", Slo(1.0), 500), ask("r3", Slo(1.0), 500))
    order = PriorityOrder(0.1).order(Backlog.of(snap), NOW_S, 0.001)
    assert names(snap, order) == ["r2", "r3", "r1"]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 120)), min_size=1, max_size=7),
)
def test_no_other_set_has_more_in_time(jobs: list[tuple[int, int]]) -> None:
    jobs.sort(key=lambda job: job[1])
    work_s = np.array([work for work, _ in jobs], dtype=np.float64)
    due_s = np.array([due for _, due in jobs], dtype=np.float64)

    def late(chosen: tuple[int, ...], room: float) -> bool:
        used = np.cumsum(work_s[list(chosen)])
        return bool((used > due_s[list(chosen)] + room).any())

    best = max(
        len(chosen)
        for size in range(len(jobs) + 1)
        for chosen in itertools.combinations(range(len(jobs)), size)
        if not late(chosen, 0.0)
    )
    chosen = tuple(np.flatnonzero(in_time(due_s, work_s)).tolist())
    grain = float(work_s.sum()) / 512 * (len(jobs) + 1)  # time is counted in 512 parts
    assert not late(chosen, grain)
    assert len(chosen) >= best


def test_those_beyond_the_first_are_not_looked_at() -> None:
    due_s, work_s = np.full(200, 1.0), np.full(200, 0.5)
    chosen = in_time(due_s, work_s)
    assert int(chosen[:96].sum()) == 2
    assert chosen[96:].all()


def window(*waiting: RequestView, running: tuple[Row, ...] = (), limit_s: float = 1.0) -> Window:
    model = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 0.0)
    snap = seen(*waiting, running=running)
    backlog, step = Backlog.of(snap), StepTime.of(model, snap, NOW_S)
    return Window.of(model, backlog, step, limit_s, list(backlog.jobs(range(len(waiting)))))


def test_without_a_next_token_at_stake_the_first_step_takes_what_fits() -> None:
    # 10 ms and 1 ms a token: 90 tokens in a step of 100 ms.
    assert window(ask("r1", Slo(9.0), 500), limit_s=0.1).best_tokens() == 90
    assert window(ask("r1", Slo(9.0), 40), limit_s=0.1).best_tokens() == 40


def test_one_that_would_end_now_and_then_hold_the_next_step_up_ends_later() -> None:
    """r1 ends with 64 tokens, and its 15 ms leave the second step 4 tokens. With 32 of them in the
    first step, the second holds the other half and as many tokens of r2 as there are."""
    tight = window(ask("r1", Slo(9.0, 0.015), 64), ask("r2", Slo(9.0), 300), limit_s=0.08)
    assert tight.rate(64) == pytest.approx((64 + 4) / (0.074 + 0.015))
    assert tight.rate(32) > tight.rate(64)
    assert tight.best_tokens() == 32


def test_slack_spent_now_is_missing_in_the_next_step() -> None:
    due = window(ask("r9", Slo(9.0), 5000), running=(decode("r1", 0.05),))
    # The decode's next token is due in 50 ms, the one after that in 100 ms.
    assert due.due_s == pytest.approx(0.1)
    assert due.rate(32) > 0.0
    assert math.isinf(window(ask("r9", Slo(9.0), 50)).due_s)


def test_the_chunk_is_the_window_s() -> None:
    answer = plan(ask("r2", Slo(9.0), 5000), running=(decode("r1", 0.05),))
    assert answer.admit == ["r2"]
    assert answer.token_budget is not None
    assert 1 < answer.token_budget <= 1 + 95 + 575  # 0.9 of 50 ms
