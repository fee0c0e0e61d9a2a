"""How much of a batch does one request claim? TRP, and the virtual batch size it adds up to.

Source: arXiv 2505.23022, TPOT Guard. TRP(r) = min_{r' in R} S_r' / S_r is the share of the steps
that request r must join to keep its TPOT SLO S_r when every step takes the tightest SLO of the
batch R; VBS(R) = sum TRP(r) is the batch size these shares amount to on average.

Not in the paper: a request without a TPOT SLO (S = inf). Its literal TRP of 0 would weigh nothing
and never run beside one that has an SLO, so it claims the share of `best_effort_tpot_s` instead.
Such requests never set the tightest SLO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray


def tightest_s(tpot_slo_s: FloatArray) -> float:
    """min S over the rows; inf when there are none, or none has a TPOT SLO."""
    return float(tpot_slo_s.min(initial=math.inf))


def trp(tpot_slo_s: FloatArray, best_effort_tpot_s: float) -> FloatArray:
    """TRP of every row, in (0, 1]; 1 for all when none has a TPOT SLO."""
    tightest = tightest_s(tpot_slo_s)
    if math.isinf(tightest):
        return np.ones(len(tpot_slo_s))
    target_s = np.where(np.isinf(tpot_slo_s), best_effort_tpot_s, tpot_slo_s)
    return np.minimum(tightest / target_s, 1.0)


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """What admission must know of a batch R, in a form that takes one more without a new pass.

    With t = min S, VBS = t * sum(1/S) + (those without a TPOT SLO) * min(t / best_effort, 1).
    """

    members: int = 0
    context_tokens: float = 0.0
    tightest_s: float = math.inf
    inverse_sum: float = 0.0  # sum of 1/S; 1/inf adds nothing
    without_slo: int = 0

    @classmethod
    def of(cls, tpot_slo_s: FloatArray, context_tokens: float) -> BatchClaim:
        """R has these TPOT SLOs and holds `context_tokens` in all."""
        return cls(
            len(tpot_slo_s),
            context_tokens,
            tightest_s(tpot_slo_s),
            float((1.0 / tpot_slo_s).sum()),
            int(np.count_nonzero(np.isinf(tpot_slo_s))),
        )

    def plus(self, tpot_slo_s: float, context_tokens: float) -> BatchClaim:
        """R + r."""
        return BatchClaim(
            self.members + 1,
            self.context_tokens + context_tokens,
            min(self.tightest_s, tpot_slo_s),
            self.inverse_sum + 1.0 / tpot_slo_s,
            self.without_slo + math.isinf(tpot_slo_s),
        )

    def vbs(self, best_effort_tpot_s: float) -> float:
        """Virtual batch size; the number of members when none has a TPOT SLO."""
        if math.isinf(self.tightest_s):
            return float(self.members)
        share = min(self.tightest_s / best_effort_tpot_s, 1.0)
        return self.tightest_s * self.inverse_sum + self.without_slo * share

    def share(self, tpot_slo_s: float, best_effort_tpot_s: float) -> float:
        """TRP of one member; 1 when none has a TPOT SLO."""
        if math.isinf(self.tightest_s):
            return 1.0
        target_s = best_effort_tpot_s if math.isinf(tpot_slo_s) else tpot_slo_s
        return min(self.tightest_s / target_s, 1.0)
