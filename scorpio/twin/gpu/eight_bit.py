"""How long does a step take when weights and activations have 8 bit? From published kernel tables.

LINEAR_MS: the linear parts of the 32 layers of Llama-3.1-8B by tokens in the step, in milliseconds,
out of the measured GEMM tables of aiconfigurator-core 0.12 (Apache-2.0): A100 in BF16 (vLLM 0.14)
and INT8 W8A8 (TensorRT-LLM 1.0, SmoothQuant), H100 in BF16 and FP8 (vLLM 0.24); two of the four
shapes are scaled from the nearest measured one. Only these parts get faster: attention, norms,
sampling and the engine's own gap stay, and so does the KV pool, although lighter weights leave
room for a tenth more of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from scorpio.core.latency import StepModel
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel

TOKENS = (1, 64, 128, 256, 512, 1024, 2048)
# name: (the GPU in 16 bit, milliseconds in 16 bit, milliseconds in 8 bit)
LINEAR_MS: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "a100-llama-3.1-8b-w8a8": (
        "a100-llama-3.1-8b",
        (10.2, 10.2, 12.0, 19.3, 31.2, 56.2, 108.0),
        (5.5, 6.2, 7.9, 13.0, 20.0, 33.1, 60.9),
    ),
    "h100-llama-3.1-8b-fp8": (
        "h100-llama-3.1-8b",
        (5.0, 5.8, 5.7, 6.7, 8.9, 18.1, 34.2),
        (3.4, 3.7, 3.8, 4.8, 6.7, 13.0, 26.5),
    ),
}


def eight_bit(name: str) -> GpuModel:
    """The same GPU with an 8-bit model, by a name of LINEAR_MS.

    What a step saves is fitted to the table in the form of the step model (base, below and above
    the knee, by relative error of the 8-bit step), and taken off the 16-bit one.
    """
    of, wide, narrow = LINEAR_MS[name]
    gpu = BUILT_IN[of]
    step, tokens = gpu.step, np.array(TOKENS, dtype=float)
    knee = step.knee_tokens
    saved_s = 1e-3 * (np.array(wide) - np.array(narrow))
    form = np.stack(
        [np.ones(len(tokens)), np.minimum(tokens, knee), np.maximum(tokens - knee, 0.0)], axis=1
    )
    weight = 1.0 / np.array([step.step_s(0, 0.0, n) for n in TOKENS])
    found, *_ = np.linalg.lstsq(form * weight[:, None], saved_s * weight, rcond=None)
    base_s, low_s, high_s = (float(value) for value in found)
    faster = StepModel(
        step.base_s - base_s,
        step.low_token_s - low_s,
        step.high_token_s - high_s,
        knee,
        step.prefill_sq_s,
        step.prefill_prefix_s,
        step.context_token_s,
    )
    source = f"{gpu.source}; linear parts in 8 bit by the GEMM tables of aiconfigurator-core 0.12"
    return replace(gpu, name=name, step=faster, source=source, mape=math.nan, max_error=math.nan)
