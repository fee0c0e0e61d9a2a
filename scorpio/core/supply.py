"""When will this much prefill work be done, beside the decodes that must keep their TPOT?

A step of length T leaves T - D for prefill (D: its decodes alone). The first step can be longer,
because running decodes have saved slack; later ones last as long as the tightest TPOT target
allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray

_LEAST_SHARE = 0.03  # a saturated batch still ends: its decodes finish one by one


@dataclass(frozen=True, slots=True)
class PrefillSupply:
    """first_step_s, decode_s: the coming step and its decodes alone; later_step_s: each of those
    after it."""

    start_s: float
    first_step_s: float
    decode_s: float
    later_step_s: float

    @property
    def share(self) -> float:
        """Part of the time that later steps leave for prefill."""
        return max(1.0 - self.decode_s / max(self.later_step_s, self.decode_s), _LEAST_SHARE)

    def done_s(self, work_s: FloatArray) -> FloatArray:
        """Absolute time at which each amount of prefill work is done."""
        first_s = max(self.first_step_s - self.decode_s, 0.0)
        beyond = np.maximum(work_s - first_s, 0.0) / self.share
        done: FloatArray = self.start_s + self.decode_s + np.minimum(work_s, first_s) + beyond
        return done

    def soonest_s(self, work_s: FloatArray) -> FloatArray:
        """When each amount of work could be done if there were nothing else but these decodes'
        next step: no later, whatever is borrowed."""
        return self.start_s + self.decode_s + work_s

    def drift_s(self, work_s: float, slo_s: FloatArray) -> FloatArray:
        """Time from the start to the last token due while this much work is done, for decodes of
        these TPOT SLOs, [B]: what each step takes beyond its target adds up."""
        all_s = float(self.done_s(np.array([work_s]))[0]) - self.start_s
        over = np.maximum(1.0 - slo_s / max(self.later_step_s, self.decode_s), 0.0)
        drift_s: FloatArray = self.first_step_s + max(all_s - self.first_step_s, 0.0) * over
        return drift_s

    def later_s(self, work_s: float) -> float:
        """How much longer than the coming step this much more work takes: whole steps."""
        step_s = max(self.later_step_s, self.decode_s)
        return math.ceil(work_s / (self.share * step_s)) * step_s
