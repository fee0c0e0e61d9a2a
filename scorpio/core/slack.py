"""How long may the next step take before a running decode turns late?

Token k of a request (the first is k = 1) is due at t_first + (k - 1) * S: one that keeps this
time-line keeps its mean TPOT at S, however long the output turns out to be.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.snapshot import RunningBatch


def step_start_s(now_s: float, executing_since_s: float, executing_step_s: float) -> float:
    """When the step now being planned will begin to execute.

    Under async scheduling the step before it may still run: it began at `executing_since_s` (NaN:
    none does) and was predicted to take `executing_step_s`.
    """
    if math.isnan(executing_since_s):
        return now_s
    return max(now_s, executing_since_s + executing_step_s)


def binding_target_s(running: RunningBatch, start_s: float) -> FloatArray:
    """TPOT SLO of each in the batch, [B]; inf for one whose first token is late already.

    Its promise is broken whatever comes, and no other shall be for its sake.
    """
    late = np.fmin(running.first_token_s, start_s) > running.deadline_s
    return np.where(late, math.inf, running.tpot_slo_s)


def decode_slack_s(
    running: RunningBatch, rows: IntArray | slice, target_s: FloatArray, start_s: float
) -> FloatArray:
    """Time from `start_s` until the next token of each decode in `rows` is due at `target_s`.

    A first token that is still in flight counts as coming at `start_s`. Negative = late already;
    inf without a target to keep.
    """
    first_s = np.fmin(running.first_token_s[rows], start_s)
    slack_s: FloatArray = first_s + target_s * running.output_tokens[rows] - start_s
    return slack_s


def least_slack_s(slack_s: FloatArray, hopeless_below_s: float) -> float:
    """The least slack of those that can still be helped; inf when there are none.

    Below `hopeless_below_s` even a step of decodes alone comes too late: holding back all
    others for such a token would only make others late too.
    """
    helpable = slack_s[slack_s >= hopeless_below_s]
    return float(helpable.min(initial=math.inf))


def likely_late(
    slack_s: FloatArray,
    recovery_s: FloatArray,
    step_s: float | FloatArray,
    mean_tokens: float,
    value: FloatArray | float = 1.0,
) -> float:
    """How many of these decodes, each by its value, will probably end late because a step takes
    `step_s` (one number, or for each, [B]).

    One that gets its token x seconds late makes up `recovery_s` with each further token; it ends
    before it is even with a probability of about (tokens needed for that) / mean_tokens.
    """
    late_s = np.maximum(step_s - slack_s, 0.0)
    tokens = late_s / np.maximum(recovery_s, 1e-9)
    return float((value * np.minimum(tokens / mean_tokens, 1.0)).sum())
