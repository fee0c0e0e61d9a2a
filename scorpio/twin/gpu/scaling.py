"""What may be fitted of a GPU model, and what is a GPU of the same kind with another speed?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from scorpio.core.latency import StepModel
from scorpio.twin.gpu.step_models import GpuModel

Free = Literal["gap", "speed", "auto"]
GAP_IS_ENOUGH = 0.03  # error up to which `auto` leaves the speed as it is
MAX_GAP_S = 0.02


def scaled(gpu: GpuModel, memory: float, compute: float, gap_s: float) -> GpuModel:
    """The same kind of GPU with other speeds."""
    s = gpu.step
    step = StepModel(
        s.base_s * memory,
        s.low_token_s * compute,
        s.high_token_s * compute,
        s.knee_tokens,
        s.prefill_sq_s * compute,
        s.prefill_prefix_s * compute,
        s.context_token_s * memory,
    )
    return replace(gpu, step=step, gap_s=gap_s, mape=math.nan, max_error=math.nan)
