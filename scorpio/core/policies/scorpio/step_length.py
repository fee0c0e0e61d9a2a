"""How long may the coming step take? TPOT guard, step by step."""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import prefill_work_s
from scorpio.core.snapshot import EngineLimits


def step_limit_s(step: StepContext, margin: float) -> float:
    """So long that no decode turns late that can still be on time.

    margin: times its prediction that a step may take.
    """
    decodes = step.decodes
    reserve_s = step.options.slack_reserve * decodes.slo_s
    helpable = decodes.slo_s > decodes.alone_s
    # By what a late one is given less than its target it makes up with each token.
    allowed_s = (np.maximum(decodes.slack_s, decodes.slo_s) - reserve_s)[helpable]
    shortest_s = float(allowed_s.min(initial=math.inf)) / margin
    return min(max(shortest_s, decodes.alone_s), decodes.most_s)


def full_step_s(model: StepModel, limits: EngineLimits) -> float:
    """The longest that the engine's limits allow: all of its token budget beside a full batch."""
    prefill_s = prefill_work_s(model, limits.token_budget, limits.max_model_len)
    return prefill_s + model.step_s(limits.max_num_seqs, limits.kv_tokens)
