"""Which requests may join the batch without breaking its tightest TPOT SLO? By VBS.

Source: arXiv 2505.23022, TPOT Guard and TPOT estimator: admit r iff the estimated TPOT of the
batch R + r, taken at its virtual batch size, at the mean length Lin of its requests and over the
predicted output of r, is at most min S. The inefficiency factor kappa = 1.3 and the safety
factor 0.99 are the public artefact's, as is the mean over current lengths of R and the prompt of
r.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.latency import DecodeModel
from scorpio.core.policies.paper.virtual_batch import BatchClaim

_ALONE: FloatArray = np.ones(1)


@dataclass(frozen=True, slots=True)
class TpotGuard:
    """kappa * estimate <= safety * min S is the whole test."""

    model: DecodeModel
    kappa: float
    safety: float
    best_effort_tpot_s: float

    def admits(self, joined: BatchClaim, output_tokens: float) -> bool:
        """Does the batch `joined` = R + r keep its tightest SLO while r produces its output?"""
        return self.estimate_s(joined, output_tokens) <= self.safety * joined.tightest_s

    def estimate_s(self, joined: BatchClaim, output_tokens: float) -> float:
        """Estimated step of the batch `joined` = R + r, kappa included."""
        mean_context = joined.context_tokens / joined.members
        vbs = joined.vbs(self.best_effort_tpot_s)
        return self.kappa * self.model.tpot_s(vbs, mean_context, output_tokens)

    def infeasible(
        self, tpot_slo_s: FloatArray, prompt_tokens: FloatArray, output_tokens: FloatArray
    ) -> BoolArray:
        """True where a request would fail `admits` even alone (VBS 1): it can never join."""
        estimate_s = self.model.tpot_s(_ALONE, prompt_tokens, output_tokens)
        return self.kappa * estimate_s > self.safety * tpot_slo_s

    def feasible_s(self, most_prompt_tokens: float, most_output_tokens: float) -> float:
        """The TPOT SLO from which on no request with at most these lengths is `infeasible`."""
        longest_s = self.model.tpot_s(1.0, most_prompt_tokens, most_output_tokens)
        return self.kappa * longest_s / self.safety

    def lost(self, tpot_slo_s: FloatArray, context_tokens: FloatArray) -> BoolArray:
        """True where a running decode of this length cannot keep its SLO even alone."""
        step_s = self.model.step_s(_ALONE, context_tokens)
        return self.kappa * step_s > self.safety * tpot_slo_s
