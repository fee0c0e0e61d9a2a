"""When will this much prefill work be done, beside the decodes that must keep their TPOT?

A step of length T leaves T - D for prefill (D: its decodes alone). The first step can be longer,
because running decodes have saved slack; later ones last as long as the tightest TPOT target
allows. Answers end: a batch that leaves little now leaves more once others have taken its place.
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
    after it. lasting_share: part of the time that steps leave for prefill once all of today's
    answers have ended, in `turnover_s`; until then what they leave grows evenly up to that."""

    start_s: float
    first_step_s: float
    decode_s: float
    later_step_s: float
    lasting_share: float = 0.0
    turnover_s: float = math.inf

    @property
    def share(self) -> float:
        """Part of the time that later steps leave for prefill."""
        return max(1.0 - self.decode_s / max(self.later_step_s, self.decode_s), _LEAST_SHARE)

    def done_s(self, work_s: FloatArray) -> FloatArray:
        """Absolute time at which each amount of prefill work is done."""
        first_s = max(self.first_step_s - self.decode_s, 0.0)
        beyond = self._beyond_s(np.maximum(work_s - first_s, 0.0))
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

    def _beyond_s(self, work_s: FloatArray) -> FloatArray:
        """Time that each amount of work takes in later steps."""
        now, gain, turn_s = self.share, self.lasting_share - self.share, self.turnover_s
        if gain <= 0.0 or turn_s == math.inf:
            return work_s / now
        inside = np.minimum(work_s, (now + 0.5 * gain) * turn_s)
        grows_s = (np.sqrt(now * now + 2.0 * gain * inside / turn_s) - now) * turn_s / gain
        beyond_s: FloatArray = grows_s + (work_s - inside) / self.lasting_share
        return beyond_s
