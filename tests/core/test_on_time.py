"""Moore-Hodgson: as many on time as brute force finds, and none dropped for nothing."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.on_time import MAX_DROPS_PER_STEP, to_shed
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
    gone = set(
        to_shed(deadline_s, work_s, lambda: work_s, np.ones(len(rows), bool), lambda w: w).tolist()
    )
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
    every_one = np.ones(3, bool)
    work_s = np.array([8.0, 2.0, 2.0])
    assert not len(to_shed(deadline_s, work_s, lambda: work_s, every_one, lambda w: w))
    # With work 3 for the last, 13 > 12: the longest goes, and the two others are early.
    work_s = np.array([8.0, 2.0, 3.0])
    assert to_shed(deadline_s, work_s, lambda: work_s, every_one, lambda w: w).tolist() == [0]


def test_cost_may_lie_beyond_the_work() -> None:
    # The same queue, but the second leads to a long answer: it goes, and 8 + 3 = 11 is on time.
    deadline_s, work_s = np.array([10.0, 11.0, 12.0]), np.array([8.0, 2.0, 3.0])
    cost_s = np.array([8.0, 20.0, 3.0])
    assert to_shed(deadline_s, work_s, lambda: cost_s, np.ones(3, bool), lambda w: w).tolist() == [
        1
    ]


def test_one_that_is_late_even_alone_goes_itself_whatever_it_costs() -> None:
    # The second could not make it even alone. The first costs more, but its going helps none.
    deadline_s, work_s = np.array([10.0, 11.0]), np.array([8.0, 12.0])
    cost_s = np.array([90.0, 1.0])
    assert to_shed(deadline_s, work_s, lambda: cost_s, np.ones(2, bool), lambda w: w).tolist() == [
        1
    ]


def test_one_that_may_not_be_dropped_stays_and_drags_no_other_out() -> None:
    deadline_s, work_s = np.array([1.0, 5.0, 50.0]), np.array([3.0, 2.0, 4.0])
    may_drop = np.array([False, True, True])
    # The first is late even alone: none is dropped for it. The second still makes it at 5.
    assert not len(to_shed(deadline_s, work_s, lambda: work_s, may_drop, lambda w: w))
    work_s[0] = 4.0  # now the second is late behind it, and only the second may go
    assert to_shed(deadline_s, work_s, lambda: work_s, may_drop, lambda w: w).tolist() == [1]


def test_a_flood_is_refused_over_several_steps() -> None:
    n = 500
    gone = to_shed(
        np.full(n, 1.0), np.full(n, 1.0), lambda: np.full(n, 1.0), np.ones(n, bool), lambda w: w
    )
    assert len(gone) == MAX_DROPS_PER_STEP


def test_no_request_may_be_dropped() -> None:
    late = np.full(20_000, 1.0)
    assert not len(to_shed(late, late, lambda: late, np.zeros(len(late), bool), lambda w: w))
    only = np.arange(len(late)) == 7  # its going helps no other: they may not be dropped
    assert to_shed(late, late, lambda: late, only, lambda w: w).tolist() == [7]


def test_equals_the_plain_rule() -> None:
    """The same walk written down as in the paper, with random rows that may not go."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 40))
        deadline_s = np.sort(rng.uniform(0.0, 30.0, n))
        deadline_s[rng.random(n) < rng.choice([0.0, 0.3])] = np.inf  # who states none is never late
        work_s, cost_s = rng.uniform(0.0, 3.0, (2, n))
        may_drop = rng.random(n) < 0.8
        alone = work_s <= deadline_s
        gone = [r for r in range(n) if may_drop[r] and not alone[r]]
        for row in range(n):
            kept = [r for r in range(row + 1) if r not in gone]
            while row in kept and alone[row] and work_s[kept].sum() > deadline_s[row]:
                able = [r for r in kept if may_drop[r]]
                if not able:
                    break
                gone.append(max(able, key=lambda r: float(cost_s[r])))
                kept.remove(gone[-1])
        cost = partial(np.copy, cost_s)
        assert to_shed(deadline_s, work_s, cost, may_drop, lambda w: w).tolist() == gone


def test_empty_queue() -> None:
    none = np.empty(0)
    assert not len(to_shed(none, none, lambda: none, np.empty(0, bool), lambda w: w))


def test_supply_of_prefill_time() -> None:
    # First step 0.1 s with 0.02 s of decodes: 0.08 s of prefill in it. Then steps of 0.04 s leave
    # half of the time.
    supply = PrefillSupply(start_s=10.0, first_step_s=0.1, decode_s=0.02, later_step_s=0.04)
    done = supply.done_s(np.array([0.0, 0.08, 0.18]))
    assert done.tolist() == pytest.approx([10.02, 10.1, 10.3])


def test_decodes_drift_by_what_each_step_takes_beyond_their_target() -> None:
    supply = PrefillSupply(start_s=10.0, first_step_s=0.1, decode_s=0.02, later_step_s=0.04)
    # Work of 0.18 s takes the first step and five more, each 10 ms too long for the first of these.
    drift = supply.drift_s(0.18, np.array([0.03, 0.04, 0.10]))
    assert drift.tolist() == pytest.approx([0.15, 0.1, 0.1])


@given(st.floats(0.001, 1.0), st.floats(0.0, 1.0), st.floats(0.001, 1.0))
def test_supply_never_runs_backwards(first_s: float, decode_s: float, target_s: float) -> None:
    done = PrefillSupply(0.0, first_s, decode_s, target_s).done_s(np.linspace(0.0, 5.0, 50))
    assert (np.diff(done) >= 0.0).all()
    assert np.isfinite(done).all()
