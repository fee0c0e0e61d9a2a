"""What do images cost in time? A latency profile knows text alone; what is beyond it is found here.

A step that encodes images takes longer than its tokens say. Policies learn the engine's speed from
steps, and take one that is far off for an accident; the time of all of them together is none. So
that part of it is taken off those steps and laid on all: a policy learns how fast the engine is for
its tokens, images encoded beside them. One step that is far longer than the others with images, or
one of the first, is an accident of the encoder (it warms up): it is told of to none.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vllm.logger import init_logger

from scorpio.core.latency import StepModel
from scorpio.core.snapshot import StepSample

logger = init_logger("vllm.scorpio")
_FADE = 0.99  # of what was seen, with each step
_MOST = 0.9  # of the time; more is not believed
_FIRST, _FAR = 3, 4.0  # steps with images that do not count; times the mean of the others
_TOLD, _STEPS = 0.2, 100  # of the time, after so many steps
_MUCH = (
    "Images take %.0f %% of the engine's time, which no forecast for a request with images knows: "
    "its first token comes later than it was promised (logged once; encoder_share in the status)"
)


class EncoderTime:
    """Of one engine. All of it is 0 until an image was seen."""

    def __init__(self) -> None:
        self._plain_s = self._model_s = 0.0  # of steps without images: as it was, as the model has
        self._encoder_s = self._total_s = 0.0
        self._steps = self._seen = 0
        self._usual_s = math.inf  # that a step with images takes for them

    @property
    def share(self) -> float:
        """Of the time of the last steps, what images took."""
        return min(self._encoder_s / self._total_s, _MOST) if self._encoder_s else 0.0

    def learned(self, sample: StepSample, encodes: bool, model: StepModel | None) -> StepSample:
        """What policies are told of an executed step. encodes: images were encoded in it. model:
        the latency profile's; None: there is none, and nothing is known."""
        if model is None or not (encodes or self._seen):
            return sample
        model_s, beyond_s = model.sample_s(sample), 0.0
        if encodes:
            speed = self._plain_s / self._model_s if self._model_s else 1.0
            beyond_s = max(sample.duration_s - speed * model_s, 0.0)
            sample = replace(sample, duration_s=sample.duration_s - beyond_s)
            beyond_s = self._counted_s(beyond_s, speed * model_s)
        else:
            self._plain_s = _FADE * self._plain_s + sample.duration_s
            self._model_s = _FADE * self._model_s + model_s
        self._encoder_s = _FADE * self._encoder_s + beyond_s
        self._total_s = _FADE * self._total_s + sample.duration_s + beyond_s
        if not self._encoder_s:
            return sample
        self._tell()
        return replace(sample, duration_s=sample.duration_s / (1.0 - self.share))

    def _counted_s(self, beyond_s: float, plain_s: float) -> float:
        """Of what a step took for its images. plain_s: what it would have taken without."""
        self._seen += 1
        if self._seen <= _FIRST:
            self._usual_s = min(self._usual_s, beyond_s)
            return 0.0
        counted_s = min(beyond_s, _FAR * max(self._usual_s, plain_s))
        self._usual_s += (counted_s - self._usual_s) / _FIRST
        return counted_s

    def _tell(self) -> None:
        """Of what is much, once."""
        if self._steps < _STEPS:
            self._steps += 1
        elif self._steps == _STEPS and self.share > _TOLD:
            self._steps += 1
            logger.warning(_MUCH, self.share * 100)
