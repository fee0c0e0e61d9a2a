"""How long may the coming step take? TPOT guard, step by step."""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.policies.scorpio.context import StepContext


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
