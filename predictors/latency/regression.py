"""Which non-negative coefficients explain the step times? Robust, relative least squares.

Relative errors are minimised (a 5 ms error matters at 10 ms, not at 1 s). Stalls are trimmed:
rows whose relative residual is far outside the median one are left out, at most a tenth of all,
so that a whole regime the model cannot express is never mistaken for noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import nnls

from scorpio.core.arrays import BoolArray, FloatArray

MAX_TRIMMED_SHARE = 0.1
_TRIM_MADS = 6.0
_TRIM_FLOOR = 0.05  # residuals within 5 % are never outliers, however tight the rest is
_MAX_ROUNDS = 8

Features = Callable[[float], FloatArray]  # knee -> design matrix [n, k]


def fit_relative(design: FloatArray, duration_s: FloatArray) -> tuple[FloatArray, float]:
    """Non-negative coefficients minimising sum(((X c - y)/y)^2), and that sum."""
    weighted = design / duration_s[:, None]
    scale = np.abs(weighted).max(axis=0)
    scale[scale == 0.0] = 1.0  # an unused column gets coefficient 0
    coefficients, norm = nnls(weighted / scale, np.ones(len(duration_s)))
    return np.asarray(coefficients / scale, dtype=np.float64), float(norm) ** 2


def fit_with_knee(
    features: Features, knees: Sequence[float], duration_s: FloatArray
) -> tuple[FloatArray, float, BoolArray]:
    """Search the knee and trim outliers until the kept rows settle.

    Returns:
        (coefficients, knee, kept rows).
    """
    designs = [features(knee) for knee in knees]
    kept: BoolArray = np.ones(len(duration_s), dtype=np.bool_)
    for _ in range(_MAX_ROUNDS):
        fits = [fit_relative(design[kept], duration_s[kept]) for design in designs]
        best = min(range(len(fits)), key=lambda i: fits[i][1])
        coefficients = fits[best][0]
        residual = designs[best] @ coefficients / duration_s - 1.0
        still_kept = _inliers(residual)
        if np.array_equal(still_kept, kept):
            break
        kept = still_kept
    return coefficients, float(knees[best]), kept


def _inliers(residual: FloatArray) -> BoolArray:
    distance = np.abs(residual - np.median(residual))
    limit = max(_TRIM_FLOOR, _TRIM_MADS * 1.4826 * float(np.median(distance)))
    # No more than the cap: when more rows are far off, the model is wrong there, not the rows.
    cap = float(np.quantile(distance, 1.0 - MAX_TRIMMED_SHARE, method="higher"))
    return np.asarray(distance <= max(limit, cap), dtype=np.bool_)


def knee_candidates(tokens: FloatArray, least: int = 3) -> list[float]:
    """Token counts where the regime may change: observed ones with `least` distinct sizes on
    either side, so that both slopes are identified. Empty data gives [1.0]."""
    sizes = np.unique(tokens)
    inner = sizes[least - 1 : max(len(sizes) - least + 1, least)]
    if len(inner) == 0:
        return [max(float(np.median(sizes)), 1.0)] if len(sizes) else [1.0]
    if len(inner) > 24:  # geometric thinning: a search of 24 is as good as one of 500
        wanted = np.geomspace(max(inner[0], 1.0), inner[-1], 24)
        inner = np.unique(
            inner[np.searchsorted(inner, wanted, side="left").clip(0, len(inner) - 1)]
        )
    return [float(size) for size in inner]
