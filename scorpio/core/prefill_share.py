"""Which part of the time do prefills take from the decodes beside them? Measured, and forgotten.

In vLLM V1 prefill and decode share a step: what a step took beyond its decodes alone was prefill.
"""

from __future__ import annotations

import math

from scorpio.core.views import StepSample

_MEMORY_S = 10.0  # how long a step counts,
_MEMORY_STEPS = 50.0  # or so many steps, where these take longer
_MOST = 0.9


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

    def observe(self, sample: StepSample, decodes_s: float) -> None:
        """Book a step; `decodes_s`: predicted time of its decodes alone."""
        keep = math.exp(-min(sample.duration_s / _MEMORY_S, 1.0 / _MEMORY_STEPS))
        prefill_s = max(sample.duration_s - decodes_s, 0.0) if sample.prefill_tokens else 0.0
        self._prefill_s = self._prefill_s * keep + prefill_s
        self._total_s = self._total_s * keep + sample.duration_s
