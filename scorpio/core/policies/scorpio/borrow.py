"""Shall decodes wait, so that fewer requests are shed?

TPOT is a mean: tokens may come late while the queue is served if later ones make up for it. That is
worth it when less value is expected to end late than is kept, and only while little is left to
prefill: in lasting overload no decode ever gets its time back.
"""

from __future__ import annotations

import math
from itertools import chain

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.shed import Competition, Outcome, shed
from scorpio.core.policies.scorpio.stock_step import stock_step
from scorpio.core.slack import likely_late

_LEAST_RECOVERY = 0.02  # of S, with each token
_BORROW_STEPS = (2.0, math.inf)  # tried lengths of borrowed steps, in usual steps, up to stock's


def borrow(step: StepContext, between: Competition, paid: Outcome) -> Outcome:
    """The outcome that loses the least value: `paid`, in which no decode turns late, or one with
    longer steps."""
    jobs, later_step_s, first_s = between.jobs, paid.supply.later_step_s, paid.supply.first_step_s
    if not len(paid.shed_jobs) or _left_s(jobs, paid.shed_jobs) >= step.options.borrow_queue_s:
        return paid
    recovery_s = _recovery_s(step)
    lengths_s = (
        length_s for length_s in _borrowed_s(step, later_step_s, jobs) if length_s > later_step_s
    )
    longer = (
        shed(step, between, step.supply(max(length_s, first_s), length_s)) for length_s in lengths_s
    )
    return min(chain([paid], longer), key=lambda found: _lost(step, found, recovery_s, jobs))


def _borrowed_s(step: StepContext, later_step_s: float, jobs: PrefillJobs) -> list[float]:
    """Lengths of step to try, up to the one in which stock vLLM would serve the queue."""
    decodes = step.decodes
    tokens = jobs.tokens * ~jobs.behind
    backlog, prefix = float(tokens.sum()), float((tokens * jobs.prefix).sum())
    budget = step.snapshot.limits.token_budget
    stock = stock_step(step.model, decodes, backlog, prefix, budget)
    most_s = min(stock.step_s, decodes.most_s)
    return sorted({min(k * later_step_s, most_s) for k in _BORROW_STEPS})


def _recovery_s(step: StepContext) -> FloatArray:
    """What each decode makes up with a token once the queue is served: steps are then as long as
    the decodes and the usual prefill need. One whose target leaves no time for that makes up next
    to nothing: the queue will be there again."""
    slo_s = step.decodes.slo_s
    usual_s = step.decodes.alone_s / (1.0 - step.prefill_share)
    recovery_s: FloatArray = np.maximum(_LEAST_RECOVERY * slo_s, slo_s - usual_s)
    return recovery_s


def _lost(step: StepContext, found: Outcome, recovery_s: FloatArray, jobs: PrefillJobs) -> float:
    """Value of what is shed, and of the decodes that will probably end late."""
    decodes, shed_jobs, mean_tokens = step.decodes, found.shed_jobs, step.lengths.mean_tokens
    late_s = found.supply.drift_s(_left_s(jobs, shed_jobs), decodes.slo_s)
    late = likely_late(decodes.slack_s, recovery_s, late_s, mean_tokens, decodes.value)
    return float(jobs.value[shed_jobs].sum()) + late


def _left_s(jobs: PrefillJobs, shed_jobs: IntArray) -> float:
    """Prefill work of those that stay."""
    return float(jobs.work_s.sum() - jobs.work_s[shed_jobs].sum())
