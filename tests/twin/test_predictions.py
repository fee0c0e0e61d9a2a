"""Are the simulated predictors what they are called? Measured against the true lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from scorpio.twin.length_hint import LengthHint
from scorpio.twin.predictions import TRAINED_SPEARMAN, predicted_tokens
from tests.twin.driving import promised

LENGTHS = np.maximum(np.random.default_rng(3).lognormal(5.0, 1.0, 3000), 1.0).astype(int).tolist()
CROWD = [
    replace(promised(i, 0.01 * i, 20, tokens), tenant="ab"[i % 2])
    for i, tokens in enumerate(LENGTHS)
]


def told(predictor: str, seed: int = 0) -> list[float | None]:
    return predicted_tokens(CROWD, LengthHint.parse(predictor), seed)


def numbers(predictor: str, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(told(predictor, seed), dtype=np.float64)


def test_the_trained_one_orders_as_measured_and_is_calibrated() -> None:
    predicted, truth = numbers("trained"), np.array(LENGTHS, dtype=np.float64)
    assert spearmanr(predicted, truth).statistic == pytest.approx(TRAINED_SPEARMAN, abs=0.05)
    order = np.argsort(predicted)
    for part in np.array_split(order, 5):  # what it says is what comes, low or high
        assert truth[part].mean() == pytest.approx(predicted[part].mean(), rel=0.12)
    assert told("trained", 1) != told("trained", 0)
    assert told("trained", 1) == told("trained", 1)


def test_the_others_are_what_they_are_called() -> None:
    assert numbers("constant") == pytest.approx(np.mean(LENGTHS))
    adversarial = numbers("adversarial")
    assert spearmanr(adversarial, LENGTHS).statistic == pytest.approx(-1.0, abs=1e-3)
    assert sorted(adversarial) == sorted(LENGTHS)
    histogram = told("histogram")
    assert histogram[:30] == [None] * 30  # a cold start
    settled = np.array(histogram[1000:], dtype=np.float64)
    assert settled.mean() == pytest.approx(np.mean(LENGTHS), rel=0.25)
    assert len(set(histogram)) > 100  # it keeps learning, each tenant for itself
    assert told("oracle") == [float(tokens) for tokens in LENGTHS]
    assert predicted_tokens([], LengthHint.parse("trained"), 0) == []


def test_bias_multiplies_what_is_told() -> None:
    biased = predicted_tokens(CROWD, LengthHint(0.0, bias=1.5), 0)
    assert biased == [1.5 * tokens for tokens in LENGTHS]
    with pytest.raises(ValueError, match="bias"):
        LengthHint(0.0, bias=0.0)
