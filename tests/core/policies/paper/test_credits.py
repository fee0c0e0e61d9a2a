"""Does a decode run as often as its rate says: exactly, for ever, and no matter who else runs?"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.policies.paper.credits import SCALE, CreditBook

ONE = np.array([0])
rates = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1 / 3, 1e-9]), st.floats(0.0, 1.0))


def runs(rate: float, steps: int) -> list[bool]:
    book = CreditBook(1)
    return [bool(book.step(ONE, np.array([rate]))[0]) for _ in range(steps)]


def test_by_hand() -> None:
    # Rate 0.6 from credit 0: 0.6, 1.2 -> run, 0.8, 1.4 -> run, 1.0 -> run, and again.
    assert runs(0.6, 10) == [False, True, False, True, True] * 2


def test_rate_one_runs_every_step_and_rate_zero_never() -> None:
    assert all(runs(1.0, 100))
    assert not any(runs(0.0, 100))


@given(st.lists(st.lists(rates, min_size=5, max_size=5), min_size=1, max_size=200))
def test_runs_stay_within_one_of_the_sum_of_rates(steps: list[list[float]]) -> None:
    """Invariants 10 and 11, against exact fractions; rates change every step."""
    book = CreditBook(8)
    slot = np.array([6, 0, 3, 7, 1])
    earned, ran = [Fraction(0)] * 5, [0] * 5
    for step in steps:
        joins = book.step(slot, np.array(step))
        for i in range(5):
            earned[i] += Fraction(step[i])
            ran[i] += bool(joins[i])
            assert abs(earned[i] - ran[i]) < 1 + Fraction(len(steps), SCALE)
        assert (book.credit >= 0).all()
        assert (book.credit < SCALE).all()
    assert (book.credit[[2, 4, 5]] == 0).all()


@given(st.lists(st.lists(rates, min_size=3, max_size=3), min_size=1, max_size=60))
def test_plain_integers_agree(steps: list[list[float]]) -> None:
    book, oracle = CreditBook(3), [0, 0, 0]
    for step in steps:
        joins = book.step(np.arange(3), np.array(step)).tolist()
        for i, rate in enumerate(step):
            oracle[i] += math.ceil(rate * SCALE)
            expected = oracle[i] >= SCALE
            oracle[i] -= SCALE * expected
            assert joins[i] == expected
        assert book.credit.tolist() == oracle


def test_no_drift_in_a_million_steps() -> None:
    """0.1, 1/3, ... have no exact binary form; floats that add them drift, integers cannot."""
    steps = 1_000_000
    slot = np.arange(6)
    rate = np.array([0.1, 1 / 3, 0.6, 0.03, 0.999_999, 1 / 7])
    book = CreditBook(6)
    ran = np.zeros(6, dtype=np.int64)
    for _ in range(steps):
        ran += book.step(slot, rate)
    assert np.abs(ran - rate * steps).max() < 1.0 + 1e-6


def test_waits_at_most_the_inverse_of_the_rate() -> None:
    """Invariant 9: between two runs lie at most ceil(T_i / T_min) steps."""
    pairs = [(0.03, 0.05), (0.03, 0.2), (0.05, 0.07), (0.001, 0.2)]
    pairs += [(0.03, 0.03 * k) for k in (2, 3, 5, 7, 10, 100)]  # 1/3 has no exact form
    for tightest, own in pairs:
        ran_at = np.flatnonzero(runs(tightest / own, 3000))
        longest = np.diff(np.concatenate([[-1], ran_at])).max()
        assert longest <= math.ceil(own / tightest - 1e-9)


def test_reset_touches_only_its_slots() -> None:
    book = CreditBook(3)
    book.step(np.arange(3), np.array([0.5, 0.5, 0.5]))
    book.reset(np.array([0, 2]))
    assert book.credit.tolist() == [0, SCALE // 2, 0]


def test_absent_slots_earn_nothing() -> None:
    book = CreditBook(2)
    for _ in range(50):
        book.step(np.array([0]), np.array([0.3]))
    assert book.credit[1] == 0


@pytest.mark.parametrize("rate", [np.array([]), np.array([1.0])])
def test_empty_and_single(rate: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    assert CreditBook(1).step(np.arange(len(rate)), rate).tolist() == [True] * len(rate)
