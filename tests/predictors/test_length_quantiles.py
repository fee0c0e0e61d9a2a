"""Are quantiles in order, calibrated where promised, and at one with what is left?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.length.quantiles import (
    LEVELS,
    MAX_TOKENS,
    MAX_Z,
    Calibration,
    LengthDistribution,
    conformal,
    monotone,
)

ANY = st.floats(allow_nan=True, allow_infinity=True)
Z = st.lists(st.floats(-5, 20), min_size=len(LEVELS), max_size=len(LEVELS)).map(np.array)
TOKENS = st.floats(0, 2 * MAX_TOKENS)
LEVEL = st.floats(0.001, 0.999)


@settings(deadline=None)
@given(st.lists(ANY, min_size=len(LEVELS), max_size=len(LEVELS)))
def test_monotone_takes_anything(z: list[float]) -> None:
    found = monotone(np.array(z))
    assert np.all(np.diff(found) >= 0)
    assert found.min() >= 0
    assert found.max() <= MAX_Z


@settings(max_examples=200, deadline=None)
@given(Z, st.integers(0, MAX_TOKENS), LEVEL, LEVEL, TOKENS, TOKENS)
def test_distribution_is_one(
    z: np.ndarray, cap: int, a: float, b: float, n: float, m: float
) -> None:  # fmt: skip
    spread = LengthDistribution.from_quantiles(z, cap)
    low, high = sorted((a, b))
    early, late = sorted((n, m))
    assert 0 < spread.survival(late) <= spread.survival(early) <= 1
    assert spread.quantile(low) <= spread.quantile(high) <= spread.max_tokens
    assert spread.quantile(low, early) <= spread.quantile(high, early)
    assert spread.quantile(low, early) <= spread.quantile(low, late) + 1e-6 * (1 + late)
    assert min(early + 1 - 1e-9, spread.max_tokens) <= math.ceil(spread.quantile(low, early)) + 1
    assert 0 <= spread.mean() <= spread.max_tokens
    assert spread.mean() <= spread.mean(late) + 1e-6 * (1 + late)
    assert math.isfinite(spread.mean(late))


@settings(deadline=None)
@given(Z)
def test_levels_are_met(z: np.ndarray) -> None:
    spread = LengthDistribution.from_quantiles(z)
    for level, tokens in zip(LEVELS, np.expm1(monotone(z)), strict=True):
        assert spread.quantile(level) == pytest.approx(tokens, rel=1e-5, abs=1e-5)


def test_conditional_quantile_of_a_pareto_tail() -> None:
    """Beyond the last quantile, what is left is in proportion to what was produced."""
    z = np.log1p(1000.0 * np.array([0.05, 0.1, 0.2, 0.4, 1.0, 2 ** (1 / 1.5)]))
    spread = LengthDistribution.from_quantiles(z)
    assert spread.tail == pytest.approx(1.5, rel=0.01)
    for n in (2000, 20_000):
        assert spread.quantile(0.5, n) == pytest.approx((1 + n) * 2 ** (1 / spread.tail) - 1)
        assert spread.survival(n) == pytest.approx(
            0.05 * ((1 + n) / (1 + 1000 * 2 ** (1 / 1.5))) ** -spread.tail, rel=1e-6
        )


def test_conditioning_on_nothing_changes_nothing() -> None:
    spread = LengthDistribution.from_quantiles(np.log1p(np.array([10, 30, 60, 99, 200, 300.0])))
    assert spread.quantile(0.9, 0.0) == pytest.approx(spread.quantile(0.9))
    assert spread.mean(0.0) == pytest.approx(spread.mean())
    assert spread.quantile(0.5, 60.0) == pytest.approx(spread.quantile(0.75), rel=1e-6)


@pytest.mark.parametrize("groups", [1, 3])
def test_conformal_coverage_on_fresh_draws(groups: int) -> None:
    """Raw quantiles that are far off, differently for long and short, are put right."""
    rng = np.random.default_rng(5)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        centre = rng.uniform(2, 6, n)
        truth = centre + rng.normal(size=n) * np.where(centre > 4, 0.3, 1.0)
        return centre[:, None] + np.linspace(-0.1, 0.1, len(LEVELS)), truth

    raw, truth = draw(4000)
    calibration = conformal(raw, truth, groups)
    raw, truth = draw(4000)
    found = calibration.apply(raw)
    assert np.all(np.diff(found, axis=1) >= 0)
    cover = (truth[:, None] <= found).mean(axis=0)
    assert cover == pytest.approx(LEVELS, abs=0.03)
    if groups == 3:
        long = raw[:, 2] > 4.7
        assert (truth[long, None] <= found[long]).mean(axis=0) == pytest.approx(LEVELS, abs=0.06)


def test_few_rows_make_one_group_and_none_change_nothing() -> None:
    raw = np.zeros((20, len(LEVELS)))
    assert conformal(raw, np.ones(20), 4).offsets.tolist() == [[1.0] * len(LEVELS)]
    assert not conformal(raw[:0], np.ones(0), 4).offsets.any()


@pytest.mark.parametrize(
    ("edges", "offsets"),
    [
        (np.zeros(1), np.zeros((1, len(LEVELS)))),
        (np.zeros(0), np.full((1, len(LEVELS)), np.nan)),
        (np.array([2.0, 1.0]), np.zeros((3, len(LEVELS)))),
        (np.zeros(0), np.full((1, len(LEVELS)), 99.0)),
    ],
)
def test_bad_calibration_is_refused(edges: np.ndarray, offsets: np.ndarray) -> None:
    with pytest.raises(ValueError, match="edges"):
        Calibration(edges, offsets)
