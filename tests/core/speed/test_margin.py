"""Do nine steps of ten stay below the margin, and is a rare outlier told from a change?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from scorpio.core.arrays import FloatArray
from scorpio.core.speed.margin import COVERAGE, StepErrors

SIGMA = 0.03


def noise(steps: int, sigma: float = SIGMA, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).lognormal(0.0, sigma, steps) - 1.0


def covered(errors: StepErrors, seen: Iterable[float]) -> float:
    """Part of the steps that stay below the margin told before them."""
    below = []
    for error in seen:
        below.append(1.0 + error <= errors.margin)
        errors.outlier(error)
    return float(np.mean(below))


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.15])
@pytest.mark.parametrize("seed", [0, 1])
def test_nine_of_ten_steps_are_covered(sigma: float, seed: int) -> None:
    errors = StepErrors()
    covered(errors, noise(300, sigma, seed))
    assert covered(errors, noise(3000, sigma, seed + 10)) == pytest.approx(COVERAGE, abs=0.03)
    assert errors.margin == pytest.approx(1.0 + 1.2816 * sigma, abs=0.5 * sigma)


def test_coverage_comes_back_after_the_noise_has_trebled() -> None:
    errors = StepErrors()
    covered(errors, noise(500))
    covered(errors, noise(300, 3 * SIGMA))
    assert covered(errors, noise(3000, 3 * SIGMA, 1)) == pytest.approx(COVERAGE, abs=0.03)


def test_no_margin_before_enough_steps() -> None:
    errors = StepErrors()
    for error in noise(49):
        assert errors.margin == 1.0
        errors.outlier(error)
    errors.outlier(0.0)
    assert errors.margin > 1.0


@pytest.mark.parametrize(("error", "margin"), [(-0.5, 1.0), (2.9, 2.0)])
def test_the_margin_is_bounded(error: float, margin: float) -> None:
    errors = StepErrors()
    for _ in range(1000):
        errors.outlier(error)
    assert errors.margin == margin


def test_what_is_rare_and_large_is_an_outlier() -> None:
    errors = StepErrors()
    for number, error in enumerate(noise(2000)):
        assert not errors.outlier(error)
        if number > 100 and number % 100 == 0:
            assert errors.outlier(1.0)


def test_a_change_is_not_refused_for_ever() -> None:
    errors = StepErrors()
    covered(errors, noise(500))
    assert [errors.outlier(0.5) for _ in range(6)] == [True] * 3 + [False] * 3
    sometimes = StepErrors()  # one step in ten is of a kind that has changed
    covered(sometimes, noise(500))
    refused = [sometimes.outlier(0.5 if n % 10 == 0 else e) for n, e in enumerate(noise(500))]
    assert not any(refused[50:])
