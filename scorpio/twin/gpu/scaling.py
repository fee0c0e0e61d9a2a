"""What may be fitted of a GPU model, and what is a GPU of the same kind with another speed?"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from scorpio.core.latency import StepModel
from scorpio.twin.gpu.step_models import GpuModel

Free = Literal["gap", "speed", "auto"]


@dataclass(frozen=True, slots=True)
class Factors:
    """How much longer each part of a step takes: what is fixed, each token up to the knee, each
    one above it with the attention of prompts, and the contexts that decodes read."""

    fixed: float = 1.0
    token: float = 1.0
    prefill: float = 1.0
    context: float = 1.0

    def __str__(self) -> str:
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"x{value:.2f} {name}" for name, value in named)


def scaled(gpu: GpuModel, by: Factors) -> GpuModel:
    """The same kind of GPU with other speeds; the engine's own gap stays."""
    s = gpu.step
    step = StepModel(
        s.base_s * by.fixed,
        s.low_token_s * by.token,
        s.high_token_s * by.prefill,
        s.knee_tokens,
        s.prefill_sq_s * by.prefill,
        s.prefill_prefix_s * by.prefill,
        s.context_token_s * by.context,
    )
    return replace(gpu, step=step, mape=math.nan, max_error=math.nan)
