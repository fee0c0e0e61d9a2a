"""Moore-Hodgson: as many on time as brute force finds, and nobody dropped for nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.on_time import MAX_DROPS_PER_STEP, let_go
from scorpio.core.supply import PrefillSupply

jobs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=8).map(
    sorted
)


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([d for d, _ in rows], float), np.array([w for _, w in rows], float)


def on_time(rows: list[tuple[int, int]]) -> bool:
    done = 0
    for deadline, work in rows:
        done += work
        if done > deadline:
            return False
    return True


@given(jobs)
def test_keeps_as_many_on_time_as_any_choice(rows: list[tuple[int, int]]) -> None:
    deadline_s, work_s = columns(rows)
    gone = set(let_go(deadline_s, work_s, np.ones(len(rows), bool), lambda w: w).tolist())
    kept = [row for index, row in enumerate(rows) if index not in gone]
    assert on_time(kept)
    best = max(
        size
        for size in range(len(rows) + 1)
        for chosen in combinations(rows, size)
        if on_time(list(chosen))
    )
    assert len(kept) == best


def test_drops_the_one_that_costs_not_the_one_that_misses() -> None:
    # Due 10, 11, 12; work 8, 2, 2: the third would be late at 12 only if 8+2+2 > 12. It is not.
    deadline_s = np.array([10.0, 11.0, 12.0])
    everybody = np.ones(3, bool)
    assert not len(let_go(deadline_s, np.array([8.0, 2.0, 2.0]), everybody, lambda w: w))
    # With work 3 for the last, 13 > 12: the longest goes, and the two others are early.
    assert let_go(deadline_s, np.array([8.0, 2.0, 3.0]), everybody, lambda w: w).tolist() == [0]


def test_who_may_not_be_dropped_stays_and_drags_nobody_out() -> None:
    deadline_s, work_s = np.array([1.0, 5.0, 50.0]), np.array([3.0, 2.0, 4.0])
    may_drop = np.array([False, True, True])
    # The first is late even alone: nobody is dropped for it. The second still makes it at 5.
    assert not len(let_go(deadline_s, work_s, may_drop, lambda w: w))
    work_s[0] = 4.0  # now the second is late behind it, and only the second may go
    assert let_go(deadline_s, work_s, may_drop, lambda w: w).tolist() == [1]


def test_a_flood_is_refused_over_several_steps() -> None:
    n = 500
    gone = let_go(np.full(n, 1.0), np.full(n, 1.0), np.ones(n, bool), lambda w: w)
    assert len(gone) == MAX_DROPS_PER_STEP


def test_empty_queue() -> None:
    none = np.empty(0)
    assert not len(let_go(none, none, np.empty(0, bool), lambda w: w))


def test_supply_of_prefill_time() -> None:
    # First step 0.1 s with 0.02 s of decodes: 0.08 s of prefill in it. Then steps of 0.04 s leave
    # half of the time.
    supply = PrefillSupply(start_s=10.0, first_step_s=0.1, decode_s=0.02, pace_s=0.04)
    done = supply.done_s(np.array([0.0, 0.08, 0.18]))
    assert done.tolist() == pytest.approx([10.02, 10.1, 10.3])


@given(st.floats(0.001, 1.0), st.floats(0.0, 1.0), st.floats(0.001, 1.0))
def test_supply_never_runs_backwards(first_s: float, decode_s: float, pace_s: float) -> None:
    done = PrefillSupply(0.0, first_s, decode_s, pace_s).done_s(np.linspace(0.0, 5.0, 50))
    assert (np.diff(done) >= 0.0).all()
    assert np.isfinite(done).all()
