"""Do the arrays say what walking the trees one by one says, and is every bad forest refused?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.length.trees import MAX_DEPTH, BadTrees, checked_ensemble
from tests.predictors.length_corpus import Arrays, random_forest

SEEDS = st.integers(0, 2**32 - 1)


def walk(arrays: Arrays, root: int, row: np.ndarray) -> float:
    """The plain reading of one tree."""
    node = root
    while arrays["left"][node] != node:
        low = row[arrays["feature"][node]] <= arrays["threshold"][node]
        node = int(arrays["left" if low else "right"][node])
    return float(arrays["value"][node])


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 5), st.integers(0, 6), st.integers(0, 300))
def test_equals_walking(seed: int, outputs: int, each: int, depth: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = random_forest(rng, outputs * each, 3, depth)
    table = np.round(rng.normal(size=(rows, 3)), 1)
    found = checked_ensemble(arrays, outputs, 3).predict(table)
    assert found.shape == (rows, outputs)
    roots = arrays["roots"].reshape(outputs, each)
    for i in range(min(rows, 5)):
        wanted = [sum(walk(arrays, int(r), table[i]) for r in some) for some in roots]
        assert found[i] == pytest.approx(wanted)
        assert checked_ensemble(arrays, outputs, 3).predict(table[i : i + 1])[0] == pytest.approx(
            wanted
        )


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.sampled_from(["roots", "feature", "left", "right"]), st.integers(-9, 200))
def test_a_changed_index_is_refused_or_harmless(seed: int, name: str, index: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = random_forest(rng, 6, 4, 4)
    arrays[name][rng.integers(len(arrays[name]))] = index
    try:
        ensemble = checked_ensemble(arrays, 2, 4)
    except BadTrees:
        return
    assert np.isfinite(ensemble.predict(rng.normal(size=(20, 4)))).all()


def test_a_row_of_nan_and_inf_counts_as_zero() -> None:
    arrays = random_forest(np.random.default_rng(3), 6, 4, 4)
    ensemble = checked_ensemble(arrays, 2, 4)
    bad = np.array([[np.nan, np.inf, -np.inf, 0.0]])
    assert np.array_equal(ensemble.predict(bad), ensemble.predict(np.zeros((1, 4))))


def chain(depth: int) -> Arrays:
    """One tree that goes right `depth` times."""
    n = 2 * depth + 1
    left, right = np.arange(n), np.arange(n)
    inner = np.arange(0, n - 1, 2)
    left[inner], right[inner] = inner + 1, inner + 2
    zeros = np.zeros(n)
    return {"roots": np.zeros(1, dtype=int), "feature": np.zeros(n, dtype=int),
            "threshold": zeros, "left": left, "right": right, "value": zeros}  # fmt: skip


def test_depth_is_bounded() -> None:
    assert checked_ensemble(chain(MAX_DEPTH), 1, 1).depth == MAX_DEPTH
    with pytest.raises(BadTrees, match="deeper"):
        checked_ensemble(chain(MAX_DEPTH + 1), 1, 1)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("left", [0, 1, 2], "after its parent"),
        ("left", [1, 1, 0], "after its parent"),
        ("right", [1, 1, 2], "exactly one"),
        ("right", [3, 1, 2], "after its parent"),
        ("feature", [-1, 0, 0], "feature"),
        ("feature", [1, 0, 0], "feature"),
        ("feature", [0.0, 0.0, 0.0], "kind"),
        ("threshold", [np.nan, 0.0, 0.0], "finite"),
        ("value", [0.0, np.inf, 0.0], "finite"),
        ("value", [0.0, 1e9, 0.0], "within"),
        ("value", [0.0, 1.0], "entries"),
        ("roots", [1], "ascend from 0"),
        ("roots", [0, 3], "ascend from 0"),
        ("roots", [[0]], "one-dimensional"),
    ],
)
def test_bad_arrays_are_named(name: str, value: list[object], reason: str) -> None:
    arrays = chain(1)
    assert checked_ensemble(arrays, 1, 1).depth == 1
    arrays[name] = np.array(value)
    with pytest.raises(BadTrees, match=reason):
        checked_ensemble(arrays, 1, 1)


def test_missing_array_and_uneven_outputs() -> None:
    with pytest.raises(BadTrees, match="value"):
        checked_ensemble({k: v for k, v in chain(1).items() if k != "value"}, 1, 1)
    with pytest.raises(BadTrees, match="outputs"):
        checked_ensemble(chain(1), 2, 1)
