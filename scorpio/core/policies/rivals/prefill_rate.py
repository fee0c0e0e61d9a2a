"""How long does a prompt token take beside the decodes? As measured, for every rival alike."""

from __future__ import annotations

from scorpio.core.latency import StepModel
from scorpio.core.snapshot import StepSample

_WEIGHT = 0.1  # of a new sample
_LEAST_SAMPLE_TOKENS = 32


class PrefillRate:
    """token_s: whole step time per prefill token, a moving average."""

    def __init__(self, model: StepModel) -> None:
        self.token_s = model.high_token_s

    def observe(self, sample: StepSample) -> None:
        """Follow one executed step, if it computed prompts to speak of."""
        if sample.prefill_tokens >= _LEAST_SAMPLE_TOKENS:
            self.token_s += _WEIGHT * (sample.duration_s / sample.prefill_tokens - self.token_s)
