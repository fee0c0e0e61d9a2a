"""How long would these steps take by a profile? Whole columns at once, by either form."""

from __future__ import annotations

import numpy as np

from predictors.latency.samples import StepTable
from scorpio.core.arrays import FloatArray
from scorpio.core.latency import LatencyProfile


def predict_mixed(profile: LatencyProfile, steps: StepTable) -> FloatArray:
    """Step times by the mixed form, shape [n]."""
    m, t = profile.step, steps.tokens
    return np.asarray(
        m.base_s
        + m.low_token_s * np.minimum(t, m.knee_tokens)
        + m.high_token_s * np.maximum(t - m.knee_tokens, 0.0)
        + m.prefill_sq_s * steps.prefill_sq
        + m.prefill_prefix_s * steps.prefill_prefix
        + m.context_token_s * steps.context_tokens
    )


def predict_paper(profile: LatencyProfile, steps: StepTable) -> FloatArray:
    """Step times by the paper's two forms, added up where a step holds both kinds, shape [n]."""
    d, p = profile.decode, profile.prefill
    mean_context = steps.context_tokens / np.maximum(steps.decodes, 1.0)
    decode_s = (
        d.a_s * steps.context_tokens + d.b_s * steps.decodes + d.c_s * mean_context + d.d_s
    ) * (steps.decodes > 0)
    over = np.maximum(steps.prefill_tokens - p.knee_tokens, 0.0)
    return np.asarray(decode_s + (p.floor_s + p.per_token_s * over) * (steps.prefill_tokens > 0))
