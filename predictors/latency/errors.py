"""How good is a step-time model? Error figures of predictions against measured steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from predictors.latency.samples import StepTable
from scorpio.core.views import FloatArray


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
