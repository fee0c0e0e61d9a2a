"""What would `scorpio profile` have found on the modelled GPU? The policies' own view of speed.

The twin's coefficients never reach a policy: it gets a fit, by the same code as in production, of
steps that were "measured" with the twin's noise and gap on a plan like that of the profiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from predictors.latency.fit import fit_profile
from scorpio.core.latency import DecodeModel, LatencyProfile, PrefillModel, StepModel
from scorpio.core.snapshot import StepSample
from scorpio.twin.engine.runner import StepWork
from scorpio.twin.gpu.noise import NoiseSpec, StepNoise
from scorpio.twin.gpu.step_models import GpuModel

_DECODES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256)
_CONTEXTS = (64, 256, 1024, 4096)
_CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048)
_PREFIXES = (0, 1024, 8192)
_NOISE_STREAM = 104_729  # apart from the run's own noise


@lru_cache(maxsize=64)
def profile_gpu(gpu: GpuModel, noise: NoiseSpec, seed: int, kv_tokens: int) -> LatencyProfile:
    """Decode, prefill and mixed-step models fitted to noisy samples of `gpu`."""
    draw = StepNoise(noise, seed + _NOISE_STREAM)
    plan = list(_plan(kv_tokens))
    np.random.default_rng([seed, _NOISE_STREAM]).shuffle(plan)
    samples = [
        StepSample(
            prefill_tokens=work.prefill_tokens,
            prefill_sq_tokens=work.prefill_sq_tokens,
            prefill_prefix_products=work.prefill_prefix_products,
            num_decodes=work.decodes,
            decode_context_tokens=work.decode_context_tokens,
            duration_s=draw.apply(work.step_s(gpu.step)) + gpu.gap_s,
        )
        for work in plan
    ]
    profile, _ = fit_profile(samples, source=f"twin of {gpu.name}, seed {seed}")
    return profile


def biased(profile: LatencyProfile, factor: float) -> LatencyProfile:
    """A profile that is wrong by `factor` everywhere, to see which policy depends on it."""
    if factor == 1.0:
        return profile
    d, p, s = profile.decode, profile.prefill, profile.step
    return replace(
        profile,
        decode=DecodeModel(d.a_s * factor, d.b_s * factor, d.c_s * factor, d.d_s * factor),
        prefill=PrefillModel(p.floor_s * factor, p.knee_tokens, p.per_token_s * factor),
        step=StepModel(
            s.base_s * factor,
            s.low_token_s * factor,
            s.high_token_s * factor,
            s.knee_tokens,
            s.prefill_sq_s * factor,
            s.prefill_prefix_s * factor,
            s.context_token_s * factor,
        ),
        source=f"{profile.source}, times {factor:g}",
    )


def _plan(kv_tokens: int) -> Iterator[StepWork]:
    """Steps that fit the KV pool: decodes alone, chunks alone, and both."""
    for decodes in _DECODES:
        for context in _CONTEXTS:
            if decodes * context <= kv_tokens:
                yield StepWork(decodes, decodes * context)
    for chunk in _CHUNKS:
        for prefix in _PREFIXES:
            if chunk + prefix <= kv_tokens:
                yield _chunk(0, 0, chunk, prefix)
    for decodes in _DECODES[2::2]:
        for chunk in _CHUNKS[::2]:
            if decodes * 512 + chunk <= kv_tokens:
                yield _chunk(decodes, decodes * 512, chunk, 0)


def _chunk(decodes: int, context: int, chunk: int, prefix: int) -> StepWork:
    return StepWork(decodes, context, chunk, float(chunk * chunk), float(chunk * prefix))
