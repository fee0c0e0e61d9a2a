"""Which quantiles does the trained model give these requests? Features, scores, trees, offsets.

The linear scores turn the n-gram bag into a few numbers (log length, chance of being short or
long) that stand beside the dense features in the rows the trees see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictors.length.features import DENSE_NAMES, Features, extract
from predictors.length.hashing import BUCKET_BITS
from predictors.length.quantiles import Calibration
from predictors.length.request import LengthRequest
from predictors.length.trees import TreeEnsemble
from scorpio.core.arrays import FloatArray, IntArray

BUCKETS: Final = 1 << BUCKET_BITS
SHORT_TOKENS: Final = (30, 200, 500)  # thresholds of the short/long scores
SCORES: Final = 1 + len(SHORT_TOKENS)
ROW_LENGTH: Final = len(DENSE_NAMES) + SCORES


def bag_weights(counts: IntArray, idf: FloatArray) -> FloatArray:
    """TF-IDF of a bag, of length 1 (or 0 when no bucket is known)."""
    weights = (1.0 + np.log(counts)) * idf
    norm = math.sqrt(float(weights @ weights))
    return weights / norm if norm > 0.0 else weights


@dataclass(frozen=True, slots=True)
class Scorer:
    """Linear scores of a bag: table [BUCKETS, 1 + SCORES] holds idf and weights of each bucket.

    One line of the cache per n-gram: reading them is what a prediction waits for most.
    """

    table: NDArray[np.float32]
    intercept: FloatArray

    def __post_init__(self) -> None:
        if self.table.shape != (BUCKETS, 1 + SCORES) or self.intercept.shape != (SCORES,):
            raise ValueError("scorer: wrong shape of the table or the intercept")
        for name in ("table", "intercept"):
            if not np.all(np.abs(getattr(self, name)) < 1e4):  # NaN fails too
                raise ValueError(f"scorer: {name} must be finite and within 1e4")

    def row(self, features: Features) -> FloatArray:
        """The row the trees see."""
        known = self.table.take(features.buckets, axis=0).astype(np.float64)
        scores = bag_weights(features.counts, known[:, 0]) @ known[:, 1:] + self.intercept
        return np.concatenate((features.dense, scores))


@dataclass(frozen=True, slots=True)
class LengthModel:
    """A checked model; loaded by `artifact.load_model`."""

    scorer: Scorer
    trees: TreeEnsemble
    calibration: Calibration
    digest: str = ""

    def rows(self, requests: Sequence[LengthRequest]) -> FloatArray:
        """Rows of several requests, [N, ROW_LENGTH]."""
        if not requests:
            return np.zeros((0, ROW_LENGTH))
        rows = [self.scorer.row(extract(request)) for request in requests]
        return np.stack(rows) if len(rows) > 1 else rows[0][None]

    def quantiles_z(self, requests: Sequence[LengthRequest]) -> FloatArray:
        """Calibrated log(1 + tokens) at LEVELS, [N, Q]."""
        return self.calibration.apply(self.trees.predict(self.rows(requests)))
