"""Does the recursion find the multipliers it is shown, and stay where it is shown nothing?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.arrays import FloatArray
from scorpio.core.speed.rls import LEAST, MOST, MultiplierRls


def taught(
    true: FloatArray, steps: int, rls: MultiplierRls | None = None, noise: float = 0.0
) -> MultiplierRls:
    """After so many steps of random shares; the true multipliers say how long each took."""
    rls, rng = rls or MultiplierRls(len(true)), np.random.default_rng(0)
    for shares in rng.dirichlet(np.ones(len(true)), steps):
        ratio = float(shares @ true) * float(rng.lognormal(0.0, noise))
        rls.update(shares.tolist(), ratio, 1.0)
    return rls


def test_each_term_is_found() -> None:
    true = np.array([1.0, 0.5, 1.3, 2.0])
    assert taught(true, 600, noise=0.03).values == pytest.approx(true, rel=0.08)
    assert taught(true, 600).values == pytest.approx(true, rel=0.03)


def test_a_change_is_found_however_long_all_was_the_same() -> None:
    """Long enough to be scaled anew twice: neither frozen nor wound up."""
    rls = taught(np.ones(3), 5000)
    assert rls.values == pytest.approx(np.ones(3), rel=1e-6)
    true = np.array([1.0, 2.0, 0.7])
    assert taught(true, 600, rls).values == pytest.approx(true, rel=0.03)


def test_no_term_leaves_the_bounds_where_the_best_fit_would() -> None:
    rls = taught(np.array([1.5 * MOST, -20.0]), 600)
    assert rls.values == [MOST, LEAST]


def test_terms_that_are_not_seen_go_where_they_are_pulled() -> None:
    rls = MultiplierRls(3)
    for _ in range(600):
        rls.update([0.5, 0.5, 0.0], 2.0, 1.2)
    assert rls.values == pytest.approx([2.0, 2.0, 1.2], rel=0.03)


def test_what_was_known_of_a_term_fades_when_it_is_seen_no_more() -> None:
    rls = taught(np.array([1.0, 1.0, 2.0]), 600)
    for _ in range(3000):
        rls.update([0.5, 0.5, 0.0], 1.0, 1.0)
    assert rls.values == pytest.approx([1.0, 1.0, 1.0], rel=0.01)


def test_a_restart_forgets() -> None:
    rls = taught(np.array([2.0, 0.5]), 600)
    rls.restart(1.1)
    assert rls.values == [1.1, 1.1]
    rls.update([0.5, 0.5], 1.1, 1.1)
    assert rls.values == pytest.approx([1.1, 1.1])
