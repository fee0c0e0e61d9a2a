"""How sure is a mean over requests and seeds? Bootstrap 95 % intervals.

Requests of one run are not independent: a full queue is full for many requests in a row.
So inside a run whole blocks of neighbouring requests are resampled (circular block bootstrap,
block = sqrt(n)), and on top of that the runs themselves (seeds, repeats). With one run the
interval speaks about that run's requests only. With a block of 1 and one run this is the
plain bootstrap of `scipy.stats.bootstrap(method="percentile")`; a test holds them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its bootstrap interval; runs and values say what it rests on."""

    mean: float
    low: float
    high: float
    runs: int
    values: int

    @property
    def excludes_zero(self) -> bool:
        """For a difference: it is not explained by chance at this confidence."""
        return self.low > 0.0 or self.high < 0.0


def mean_interval(
    values_by_run: Sequence[Sequence[float] | FloatArray],
    *,
    block: int | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean over runs of the mean over requests, with its interval.

    Args:
        values_by_run: per run (seed or repeat) one value per request, in arrival order.
        block: neighbouring requests resampled together; None = sqrt(n).
        seed: of the resampling, so that the same data give the same interval.

    Raises:
        ValueError: no run, or a run without requests.
    """
    runs = [np.asarray(values, dtype=np.float64) for values in values_by_run]
    if not runs or any(values.size == 0 for values in runs):
        raise ValueError("an interval needs at least one run, and requests in every run")
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    picks = rng.integers(0, len(runs), size=(resamples, len(runs)))
    for index, values in enumerate(runs):
        drawn = (picks == index).sum(axis=1)  # how often each resample took this run
        for rank in range(1, int(drawn.max(initial=0)) + 1):
            rows = np.flatnonzero(drawn >= rank)
            means[rows] += block_means(values, block, rows.size, rng)
    means /= len(runs)
    tail = 100.0 * (1.0 - confidence) / 2.0
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return Interval(
        mean=float(np.mean([values.mean() for values in runs])),
        low=float(low),
        high=float(high),
        runs=len(runs),
        values=sum(values.size for values in runs),
    )


def block_means(
    values: FloatArray, block: int | None, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Means of `resamples` circular block resamples of one run."""
    size = values.size
    length = min(size, max(1, block if block is not None else math.isqrt(size)))
    blocks = math.ceil(size / length)
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values[: length - 1])))))
    starts = rng.integers(0, size, size=(resamples, blocks))
    block_sums = sums[starts + length] - sums[starts]
    result: FloatArray = block_sums.sum(axis=1) / (blocks * length)
    return result
