"""Are as many promises broken as may be, and no more?"""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorpio.core.policies.scorpio.learn.stretch import Stretch


def test_one_that_is_broken_counts_as_much_as_32_that_are_kept() -> None:
    stretch = Stretch(4.0)
    for _ in range(3):
        stretch.learn(kept=False)
    assert stretch.times == pytest.approx(4.0 * math.exp(3 * 0.25 * 0.97))
    for _ in range(97):
        stretch.learn(kept=True)
    assert stretch.times == pytest.approx(4.0)


def test_it_has_two_ends() -> None:
    stretch = Stretch(2.0)
    for _ in range(100):
        stretch.learn(kept=False)
    assert stretch.times == 16.0
    for _ in range(1000):
        stretch.learn(kept=True)
    assert stretch.times == 1.25


def test_in_the_long_run_three_of_a_hundred_are_broken() -> None:
    """What is needed is lognormal around 3 times the forecast, and so is what the promise was."""
    rng, stretch, broken = np.random.default_rng(1), Stretch(), 0
    for _ in range(4000):
        kept = stretch.times >= 3.0 * rng.lognormal(0.0, 0.3)
        broken += not kept
        stretch.learn(kept)
    assert 0.02 < broken / 4000 < 0.045
