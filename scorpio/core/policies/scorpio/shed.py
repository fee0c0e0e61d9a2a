"""Which requests are shed so that the others are on time, and how long are steps then?

TTFT guard of `scorpio`. Rather than refuse, it borrows from the decodes: TPOT is a mean, so tokens
may come late while the queue is served if later ones make up for it. Worth it when less value is
expected to end in debt than is kept, and only while little is left to prefill: in lasting overload
no decode ever gets its time back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.policies.scorpio.coming_step import ComingStep
from scorpio.core.policies.scorpio.fair_share import TenantShares
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.on_time import MAX_DROPS_PER_STEP, to_shed
from scorpio.core.policies.scorpio.plan_budget import within
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.stock_step import stock_step
from scorpio.core.policies.scorpio.supply import PrefillSupply
from scorpio.core.slack import likely_late
from scorpio.core.waiting import WaitingTable

_BORROW_STEPS = (2.0, math.inf)  # tried lengths of borrowed steps, in paces, up to stock's


@dataclass(frozen=True, slots=True)
class Competition:
    """What decides between the jobs of a step.

    over: fair shares that each job's tenant had, where that is too much, else 0; None: nowhere.
    prefill_share: of prefill in the step time of the last seconds. options: the policy's.
    """

    jobs: PrefillJobs
    over: FloatArray | None
    crowd: Crowd
    lengths: LengthBelief
    prefill_share: float
    options: Mapping[str, float]


class Outcome(NamedTuple):
    """The jobs shed, and the prefill time that the others have."""

    supply: PrefillSupply
    gone: IntArray


def shed(step: ComingStep, limit_s: float, between: Competition) -> Outcome:
    """The outcome that loses the least value. limit_s: a step in which no decode turns late."""
    pace_s = step.pace_s()
    best = _outcome(step, limit_s, pace_s, between)
    jobs = between.jobs
    if not len(best.gone) or _left_s(jobs, best.gone) >= between.options["borrow_queue_s"]:
        return best
    recovery_s = _recovery_s(step, between)
    longer_s = (t for t in _borrowed_s(step, pace_s, jobs) if t > pace_s)
    longer = (_outcome(step, max(t, limit_s), t, between) for t in longer_s)
    return min(chain([best], longer), key=lambda found: _lost(step, found, recovery_s, between))


def over_share(
    tenants: TenantShares, waiting: WaitingTable, jobs: PrefillJobs
) -> FloatArray | None:
    """`over` of a `Competition`; 0 for what is running."""
    waits = jobs.row >= 0
    theirs = tenants.over_share(waiting.tenant[jobs.row[waits]])
    if theirs is None:
        return None
    over = np.zeros(len(jobs.row))
    over[waits] = theirs
    return over


def _outcome(step: ComingStep, step_s: float, later_s: float, between: Competition) -> Outcome:
    """With steps as long as that."""
    jobs, over, supply = between.jobs, between.over, step.supply(step_s, later_s)
    work_s = jobs.work_s
    if over is not None:
        work_s = np.where(over > 0.0, between.options["tenant_room"], 1.0) * work_s

    def cost_s() -> FloatArray:
        return _cost_s(step, between)

    most = within(MAX_DROPS_PER_STEP, step.decodes.alone_s)
    gone = to_shed(jobs.deadline_s, work_s, cost_s, jobs.may_drop, supply.done_s, most)
    return Outcome(supply, gone)


def _cost_s(step: ComingStep, between: Competition) -> FloatArray:
    """Of each job: the dearest goes first. Less for one that was told to come back, and more than
    any other's for one of a tenant that has too much."""
    jobs, over, crowd = between.jobs, between.over, between.crowd
    cost_s = jobs.cost_s(step.model, between.lengths)
    back = crowd.is_back(step.snapshot.waiting, jobs.row)
    if back is not None:
        cost_s = np.where(back, crowd.weight, 1.0) * cost_s
    return cost_s if over is None else cost_s + over * cost_s.max()


def _borrowed_s(step: ComingStep, pace_s: float, jobs: PrefillJobs) -> list[float]:
    """Lengths of step to try, up to the one in which stock vLLM would serve the queue."""
    decodes = step.decodes
    tokens = jobs.tokens * ~jobs.behind
    backlog, prefix = float(tokens.sum()), float((tokens * jobs.prefix).sum())
    budget = step.snapshot.limits.token_budget
    stock = stock_step(step.model, decodes, backlog, prefix, budget)
    most_s = min(stock.step_s, decodes.most_s)
    return sorted({min(k * pace_s, most_s) for k in _BORROW_STEPS})


def _recovery_s(step: ComingStep, between: Competition) -> FloatArray:
    """What each decode makes up with a token once the queue is served: steps are then as long as
    the decodes and the usual prefill need."""
    slo_s = step.decodes.slo_s
    usual_s = step.decodes.alone_s / (1.0 - between.prefill_share)
    recovery_s: FloatArray = np.maximum(
        (1.0 - between.options["catch_up"]) * slo_s, slo_s - usual_s
    )
    return recovery_s


def _lost(step: ComingStep, found: Outcome, recovery_s: FloatArray, between: Competition) -> float:
    """Value of what is shed, and of the decodes that will probably end late."""
    decodes, jobs, gone = step.decodes, between.jobs, found.gone
    late_s = found.supply.drift_s(_left_s(jobs, gone), decodes.slo_s)
    mean_tokens = between.lengths.mean_tokens
    late = likely_late(decodes.slack_s, recovery_s, late_s, mean_tokens, decodes.value)
    return float(jobs.value[gone].sum()) + late


def _left_s(jobs: PrefillJobs, gone: IntArray) -> float:
    """Prefill work of those that stay."""
    return float(jobs.work_s.sum() - jobs.work_s[gone].sum())
