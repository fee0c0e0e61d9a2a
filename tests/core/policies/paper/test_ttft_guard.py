"""Does the vectorised walk refuse exactly whom the published one-by-one walk refuses?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scorpio.core.latency import PrefillModel
from scorpio.core.policies.paper.ttft_guard import TtftGuard

HAND = TtftGuard(PrefillModel(floor_s=0.1, knee_tokens=100.0, per_token_s=0.001), margin_s=0.05)
Waiting = list[tuple[float, int, bool]]  # (deadline, prompt tokens, may be refused)


def walk_by_hand(
    guard: TtftGuard, now_s: float, ahead: float, waiting: Waiting
) -> tuple[list[int], list[float]]:
    """The paper's loop. NaN among the estimates marks a knife edge, where rounding decides."""
    queued, rows, estimates = ahead, [], []
    edge = False
    for row, (deadline_s, tokens, may_miss) in enumerate(waiting):
        estimate_s = guard.margin_s + guard.model.prefill_s(queued + tokens)
        edge = edge or abs(now_s + estimate_s - deadline_s) < 1e-7
        if may_miss and now_s + estimate_s > deadline_s:
            rows.append(row)
            estimates.append(estimate_s)
        else:
            queued += tokens
    return rows, [math.nan] if edge else estimates


def walk(
    guard: TtftGuard, now_s: float, ahead: float, waiting: Waiting
) -> tuple[list[int], list[float]]:
    deadline_s = np.array([w[0] for w in waiting])
    tokens = np.array([float(w[1]) for w in waiting])
    may_miss = np.array([w[2] for w in waiting], dtype=np.bool_)
    columns = [c.copy() for c in (deadline_s, tokens, may_miss)]
    rows = guard.missing(now_s, ahead, deadline_s, tokens, may_miss)
    estimates = guard.estimates_s(ahead, tokens, rows, tokens[rows]).tolist()
    assert all(map(np.array_equal, columns, (deadline_s, tokens, may_miss)))
    return rows.tolist(), estimates


def test_by_hand() -> None:
    # Prefill of n tokens: 0.1 s + 1 ms per token beyond 100; margin 50 ms; now = 10 s.
    waiting: Waiting = [
        (10.3, 200, True),  #   200 queued: 0.1 + 0.1 + 0.05 = 0.25 -> 10.25, in time
        (10.4, 300, True),  #   500 queued: 0.55 -> 10.55, refused; its 300 do not count
        (10.5, 150, True),  #   350 queued: 0.40 -> 10.40, in time
        (10.6, 400, False),  #  750 queued: 0.80 -> late, but it may wait, so it stays
        (11.1, 200, True),  #   950 queued: 1.00 -> 11.00, in time because row 1 left
        (math.inf, 9999, True),
    ]
    rows, estimates = walk(HAND, 10.0, 0.0, waiting)
    assert rows == [1]
    assert estimates == pytest.approx([0.55])
    # 299 tokens of running prefills come first: 499 -> 0.549 and 599 -> 0.649 are refused;
    # 449 -> 0.499 in time; 849 stays; 1049 -> 1.099 in time.
    rows, estimates = walk(HAND, 10.0, 299.0, waiting)
    assert rows == [0, 1]
    assert estimates == pytest.approx([0.549, 0.649])


def test_below_the_knee_the_floor_alone_decides() -> None:
    # floor + margin = 0.15 s
    rows, _ = walk(HAND, 10.0, 0.0, [(10.14, 5, True), (10.16, 5, True)])
    assert rows == [0]


@pytest.mark.parametrize("waiting", [[], [(math.inf, 10, True)] * 3, [(-1.0, 10, False)] * 3])
def test_no_request_to_refuse(waiting: Waiting) -> None:
    assert walk(HAND, 10.0, 1e9, waiting) == ([], [])


def test_all_hopeless() -> None:
    assert walk(HAND, 10.0, 0.0, [(9.0, 10, True)] * 700)[0] == list(range(700))


@st.composite
def queues(draw: st.DrawFn) -> Waiting:
    scale = draw(st.sampled_from([0.5, 5.0, 50.0]))
    deadlines = draw(st.lists(st.one_of(st.just(math.inf), st.floats(-0.5, scale)), max_size=60))
    return [
        (deadline_s, draw(st.integers(1, 900)), draw(st.integers(0, 4)) > 0)
        for deadline_s in sorted(deadlines)
    ]


@given(
    queues(),
    st.floats(0.0, 0.2),
    st.floats(0.0, 300.0),
    st.sampled_from([0.0, 1e-5, 1e-3]),
    st.sampled_from([0.0, 250.0, 5000.0]),
)
@settings(max_examples=400, deadline=None)
def test_same_as_the_published_loop(
    waiting: Waiting, floor_s: float, knee: float, per_token_s: float, ahead: float
) -> None:
    guard = TtftGuard(PrefillModel(floor_s, knee, per_token_s), 0.05)
    expected_rows, expected_estimates = walk_by_hand(guard, 0.0, ahead, waiting)
    assume(not any(map(math.isnan, expected_estimates)))
    rows, estimates = walk(guard, 0.0, ahead, waiting)
    assert rows == expected_rows
    assert estimates == pytest.approx(expected_estimates)


@pytest.mark.parametrize("seed", range(6))
def test_same_as_the_published_loop_on_long_queues(seed: int) -> None:
    """Long enough for several chunks of candidates, sparse and dense refusals."""
    rng = np.random.default_rng(seed)
    n = 3000
    spread_s = (5.0, 60.0, 400.0, 1200.0, 1500.0, 3000.0)[seed]
    waiting: Waiting = list(
        zip(
            np.sort(rng.uniform(0.0, spread_s, n)).tolist(),
            rng.integers(1, 900, n).tolist(),
            (rng.random(n) < 0.9).tolist(),
            strict=True,
        )
    )
    expected_rows, expected_estimates = walk_by_hand(HAND, 0.0, 77.0, waiting)
    rows, estimates = walk(HAND, 0.0, 77.0, waiting)
    assert rows == expected_rows
    assert estimates == pytest.approx(expected_estimates)
    assert rows
