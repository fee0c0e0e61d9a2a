"""Do faded log-spaced counts give the quantiles of what was seen, in bounded memory?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.length.histogram import HistogramTable, LengthHistogram
from predictors.length.quantiles import LEVELS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=300))
def test_quantiles_are_within_a_bin_of_the_exact_ones(lengths: list[int]) -> None:
    histogram = LengthHistogram(half_life=1e12)
    for length in lengths:
        histogram.add(length)
    z = histogram.quantiles_z()
    assert z is not None
    assert np.all(np.diff(z) >= 0)
    low = np.log1p(np.quantile(lengths, LEVELS, method="lower"))
    high = np.log1p(np.quantile(lengths, LEVELS, method="higher"))
    width = np.log(2) / 4 + 1e-9
    assert np.all(z >= low - width)
    assert np.all(z <= high + width)
    assert histogram.weight == pytest.approx(len(lengths))


@settings(deadline=None)
@given(st.lists(st.integers(-(10**30), 10**30), min_size=1))
def test_absurd_lengths_are_clamped(lengths: list[int]) -> None:
    histogram = LengthHistogram()
    for length in lengths:
        histogram.add(length)
    z = histogram.quantiles_z()
    assert z is not None
    assert np.isfinite(z).all()


def test_the_past_fades() -> None:
    histogram = LengthHistogram(half_life=100)
    for _ in range(1000):
        histogram.add(10)
    for _ in range(400):
        histogram.add(1000)
    z = histogram.quantiles_z()
    assert z is not None
    assert np.expm1(z[LEVELS.index(0.1)]) > 800
    assert histogram.weight < 150


def test_empty_says_nothing() -> None:
    assert LengthHistogram().quantiles_z() is None
    with pytest.raises(ValueError, match="half_life"):
        LengthHistogram(0.0)
    with pytest.raises(ValueError, match="max_keys"):
        HistogramTable(0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000)), max_size=200))
def test_keys_are_bounded_and_the_last_used_stay(seen: list[tuple[int, int]]) -> None:
    table = HistogramTable(max_keys=4)
    for key, length in seen:
        table.add(("m", "t", key), length)
    latest = list(dict.fromkeys(key for key, _ in reversed(seen)))[:4]
    assert len(table) == len(latest)
    assert all(table.get(("m", "t", key)) is not None for key in latest)
