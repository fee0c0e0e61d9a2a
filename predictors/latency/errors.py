"""How good is a step-time model? Error figures of predictions against measured steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from predictors.latency.samples import StepTable
from scorpio.core.arrays import FloatArray

_MIN_REPEATS = 4


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """Errors over n steps, relative to the measured time; r2 on absolute times (None if n < 2)."""

    n: int
    r2: float | None
    mape: float
    median_ape: float
    max_ape: float

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain dict for JSON."""
        return asdict(self)


def error_stats(predicted_s: FloatArray, measured_s: FloatArray) -> ErrorStats | None:
    """Error figures, or None when there are no steps."""
    if len(measured_s) == 0:
        return None
    ape = np.abs(predicted_s - measured_s) / measured_s
    spread = float(np.sum((measured_s - measured_s.mean()) ** 2))
    missed = float(np.sum((measured_s - predicted_s) ** 2))
    return ErrorStats(
        n=len(measured_s),
        r2=1.0 - missed / spread if spread > 0.0 else None,
        mape=float(ape.mean()),
        median_ape=float(np.median(ape)),
        max_ape=float(ape.max()),
    )


def errors_by_kind(
    steps: StepTable, predicted_s: FloatArray, knee_tokens: float
) -> dict[str, ErrorStats | None]:
    """Error figures of all steps, by kind of step and by regime."""
    below = steps.tokens <= knee_tokens
    kinds = {"all": below | True, "decode": steps.decode_only, "prefill": steps.prefill_only,
             "mixed": steps.mixed, "below_knee": below, "above_knee": ~below}  # fmt: skip
    return {
        kind: error_stats(predicted_s[rows], steps.duration_s[rows]) for kind, rows in kinds.items()
    }


def repeat_error(steps: StepTable, predicted_s: FloatArray) -> ErrorStats | None:
    """How well can a step be told from its own repetitions? Hardly a model of sizes does better.

    Steps of the same prefill chunks and batch are told by the median of the others; what their
    contexts make different is taken from `predicted_s`. Sizes seen fewer than 4 times are left out;
    None when that leaves nothing.
    """
    ratio = steps.duration_s / predicted_s
    sizes = (steps.prefill_tokens, steps.prefill_sq, steps.prefill_prefix, steps.decodes)
    _, group = np.unique(np.stack(sizes, axis=1), axis=0, return_inverse=True)
    told_s = np.full(len(steps), np.nan)
    for number in np.flatnonzero(np.bincount(group.ravel()) >= _MIN_REPEATS):
        rows = np.flatnonzero(group.ravel() == number)
        for row in rows:
            told_s[row] = predicted_s[row] * np.median(ratio[rows[rows != row]])
    known = ~np.isnan(told_s)
    return error_stats(told_s[known], steps.duration_s[known])
