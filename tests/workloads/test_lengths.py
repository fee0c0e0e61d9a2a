"""Do drawn lengths follow their knots, and their tie, whatever the seed?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.synthetic.fit import ks_distance
from workloads.synthetic.lengths import INDEPENDENT, LengthModel, sample_pairs

WIDE = LengthModel((0.0, 0.5, 1.0), (10.0, 100.0, 1000.0))


def test_quantiles_by_hand() -> None:
    u = np.array([0.0, 0.25, 0.5, 1.0])
    assert WIDE.quantile(u).tolist() == [10, 32, 100, 1000]  # log-linear: sqrt(10*100) = 31.6
    cut = LengthModel(WIDE.p, WIDE.tokens, scale=0.5, low=8, high=60)
    assert cut.quantile(u).tolist() == [8, 16, 50, 60]


def test_two_knots_at_one_length_are_an_atom() -> None:
    model = LengthModel((0.0, 0.2, 0.7, 1.0), (1.0, 5.0, 5.0, 9.0))
    assert (model.quantile(np.linspace(0.2, 0.7, 9)) == 5).all()


@pytest.mark.parametrize(
    ("p", "tokens"),
    [
        ((0.0, 1.0), (5.0,)),
        ((0.0,), (5.0,)),
        ((0.1, 1.0), (1.0, 2.0)),
        ((0.0, 0.9), (1.0, 2.0)),
        ((0.0, 0.5, 0.4, 1.0), (1.0, 2.0, 3.0, 4.0)),
        ((0.0, 1.0), (3.0, 2.0)),
        ((0.0, 1.0), (0.0, 2.0)),
        ((0.0, 1.0), (1.0, float("nan"))),
    ],
)
def test_bad_knots_are_refused(p: tuple[float, ...], tokens: tuple[float, ...]) -> None:
    with pytest.raises(WorkloadError, match="length knots"):
        LengthModel(p, tokens)


@pytest.mark.parametrize("bad", [{"scale": 0.0}, {"low": 0}, {"low": 9, "high": 8}])
def test_bad_cuts_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(WorkloadError, match="low <= high"):
        LengthModel((0.0, 1.0), (1.0, 2.0), **bad)


@pytest.mark.parametrize("grid", [(), ((1.0, 1.0),), ((1.0, -1.0), (1.0, 1.0)), ((0.0,),)])
def test_bad_grids_are_refused(grid: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(WorkloadError, match="rank_grid"):
        sample_pairs(WIDE, WIDE, grid, 1, 0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**60), n=st.integers(0, 200))
def test_a_longer_draw_starts_the_same(seed: int, n: int) -> None:
    prompt, output = sample_pairs(WIDE, WIDE, ((3, 1), (1, 3)), n, seed)
    longer = sample_pairs(WIDE, WIDE, ((3, 1), (1, 3)), n + 20, seed)
    assert (prompt == longer[0][:n]).all()
    assert (output == longer[1][:n]).all()


def test_the_tie_leaves_both_columns_alone() -> None:
    loose = sample_pairs(WIDE, WIDE, INDEPENDENT, 100_000, 1)
    tied = sample_pairs(WIDE, WIDE, ((9, 1), (1, 9)), 100_000, 1)
    assert ks_distance(loose[1], tied[1]) < 0.01
    same_half = np.mean((tied[0] >= 100) == (tied[1] >= 100))
    assert same_half == pytest.approx(0.9, abs=0.01)
    assert np.mean((loose[0] >= 100) == (loose[1] >= 100)) == pytest.approx(0.5, abs=0.01)
