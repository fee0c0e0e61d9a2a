"""Is the engine as fast as its profile says? One factor, learned from executed steps.

A profile is taken once, on an idle machine; clocks, neighbours and kernels change. Steps are
compared with their prediction and the ratio is followed slowly; ratios outside [1/4, 4] (stalls,
warm-up) are not evidence.
"""

from __future__ import annotations

from scorpio.core.latency import StepModel
from scorpio.core.views import StepSample

_WEIGHT = 0.02  # of one step: a lasting 30 % change is followed within some hundred steps
_LEAST, _MOST = 0.25, 4.0


class Calibration:
    """`factor` multiplies every predicted step time."""

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self.factor = 1.0

    def observe(self, sample: StepSample) -> None:
        """Follow one executed step."""
        predicted_s = self._model.sample_s(sample)
        if predicted_s <= 0.0:
            return
        ratio = sample.duration_s / predicted_s
        if _LEAST <= ratio <= _MOST:
            self.factor += _WEIGHT * (ratio - self.factor)

    def model(self) -> StepModel:
        """The profile's model at today's speed."""
        m, f = self._model, self.factor
        return StepModel(
            base_s=m.base_s * f,
            low_token_s=m.low_token_s * f,
            high_token_s=m.high_token_s * f,
            knee_tokens=m.knee_tokens,
            prefill_sq_s=m.prefill_sq_s * f,
            prefill_prefix_s=m.prefill_prefix_s * f,
            context_token_s=m.context_token_s * f,
        )
