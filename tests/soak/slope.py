"""Does it grow? Least squares through samples in time, with an interval.

What a process holds now is what it held ten seconds ago, nearly: samples in a row say the same
thing again. So the interval is that of as many independent samples as the lag-1 correlation of
the residuals leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEAST_SAMPLES = 8
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth per hour and its 95 % interval."""

    mean: float
    low: float
    high: float


def slope_per_hour(at_s: Sequence[float], values: Sequence[float]) -> Slope | None:
    """Growth per hour with its 95 % interval; None when there are too few samples to say."""
    if len(at_s) < LEAST_SAMPLES:
        return None
    x, y = np.asarray(at_s, dtype=float) / _HOUR_S, np.asarray(values, dtype=float)
    x = x - x.mean()
    spread = float((x * x).sum())
    slope = float((x * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * x
    free = max(_independent(rest) - 2.0, 1.0)
    variance = float((rest * rest).sum()) / free
    half = float(stats.t.ppf(0.975, free)) * float(np.sqrt(variance / spread))
    return Slope(slope, slope - half, slope + half)


def _independent(rest: NDArray[np.float64]) -> float:
    """How many independent samples these residuals are worth (2 at least)."""
    power = float((rest * rest).sum())
    if power == 0.0:
        return float(len(rest))
    alike = min(max(float((rest[1:] * rest[:-1]).sum()) / power, 0.0), 0.999)
    return max(len(rest) * (1.0 - alike) / (1.0 + alike), 2.0)
