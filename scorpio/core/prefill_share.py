"""Which part of the time do prefills take from the decodes beside them? Measured, and forgotten.

In vLLM V1 prefill and decode share a step: what a step took beyond its decodes alone was prefill.
"""

from __future__ import annotations

import math

from scorpio.core.snapshot import StepSample

_MEMORY_S = 10.0  # how long a step counts,
_MEMORY_STEPS = 50.0  # or so many steps, where these take longer
_MOST = 0.9
_PAUSE_S = 1.0  # without work; shorter ones belong to a light load
_STALL = 4.0  # times its prediction: a step that takes longer has not been computing all that time


class PrefillShare:
    """`value` is the part of the recent step time that went into prefill, 0 to 0.9."""

    def __init__(self) -> None:
        self._prefill_s = self._total_s = 0.0

    @property
    def value(self) -> float:
        """0 before any step."""
        if self._total_s <= 0.0:
            return 0.0
        return min(self._prefill_s / self._total_s, _MOST)

    def observe(self, sample: StepSample, decodes_s: float, predicted_s: float = 0.0) -> None:
        """Book a step; predicted times of its decodes alone, and of all of it (0: not known)."""
        took_s = sample.duration_s
        if 0.0 < predicted_s * _STALL < took_s:
            took_s = predicted_s
        prefill_s = max(took_s - decodes_s, 0.0) if sample.prefill_tokens else 0.0
        keep = math.exp(-min(took_s / _MEMORY_S, 1.0 / _MEMORY_STEPS))
        self._prefill_s = self._prefill_s * keep + prefill_s
        self._total_s = self._total_s * keep + took_s

    def idle(self, idle_s: float) -> None:
        """The engine had nothing to do for so long: prefills of before are no longer the rule."""
        if idle_s > _PAUSE_S:
            self._prefill_s *= math.exp(-idle_s / _MEMORY_S)
