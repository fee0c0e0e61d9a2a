"""Which requests are shed so that the others are on time? TTFT guard of `scorpio`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.policies.scorpio.class_shares import ClassShares
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.on_time import MAX_DROPS_PER_STEP, to_shed
from scorpio.core.policies.scorpio.plan_budget import within
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.supply import PrefillSupply
from scorpio.core.waiting import WaitingTable

QUOTED_WEIGHT = 0.1  # of its cost counts for a request that was quoted what it asks for


@dataclass(frozen=True, slots=True)
class Competition:
    """What decides between the jobs of a step.

    over: fair shares that each job's tenant had, where that is too much, else 0; None: nowhere.
    crowd: which of them were told to come back.
    """

    jobs: PrefillJobs
    over: FloatArray | None
    crowd: Crowd


class Outcome(NamedTuple):
    """The jobs shed, and the prefill time that the others have."""

    supply: PrefillSupply
    shed_jobs: IntArray


def shed(step: StepContext, between: Competition, supply: PrefillSupply) -> Outcome:
    """The jobs that cost most, so many that all others are on time with so much prefill time."""
    jobs, over = between.jobs, between.over
    work_s = jobs.work_s
    if over is not None:
        work_s = np.where(over > 0.0, step.options.tenant_room, 1.0) * work_s

    def cost_s() -> FloatArray:
        return shed_cost_s(step, between)

    most = within(MAX_DROPS_PER_STEP, step.decodes.alone_s)
    shed_jobs = to_shed(jobs.deadline_s, work_s, cost_s, jobs.may_drop, supply.done_s, most)
    return Outcome(supply, shed_jobs)


def shed_cost_s(step: StepContext, between: Competition) -> FloatArray:
    """Of each job: the dearest goes first. Less for one that was told to come back or quoted what
    it asks for, and more than any other's for one of a tenant that has too much."""
    jobs, over = between.jobs, between.over
    cost_s = jobs.cost_s(step.model, step.lengths)
    back = _came_back(step.snapshot.waiting, between)
    if back is not None:
        cost_s = np.where(back, between.crowd.weight, 1.0) * cost_s
    quoted = _quoted(step.snapshot.waiting, jobs)
    if quoted is not None:
        cost_s = np.where(quoted, QUOTED_WEIGHT, 1.0) * cost_s
    return cost_s if over is None else cost_s + over * cost_s.max()


def _quoted(waiting: WaitingTable, jobs: PrefillJobs) -> BoolArray | None:
    """Which jobs ask for what they were quoted? None: not one."""
    if not waiting.quoted.any():
        return None
    waits = ~jobs.running
    quoted = np.zeros(len(jobs.row), dtype=np.bool_)
    quoted[waits] = waiting.quoted[jobs.row[waits]]
    return quoted


def _came_back(waiting: WaitingTable, between: Competition) -> BoolArray | None:
    """Which jobs? None: not one."""
    jobs, waits = between.jobs, ~between.jobs.running
    theirs = between.crowd.is_back(waiting, jobs.row[waits])
    if theirs is None:
        return None
    back = np.zeros(len(jobs.row), dtype=np.bool_)
    back[waits] = theirs
    return back


def over_share(tenants: ClassShares, waiting: WaitingTable, jobs: PrefillJobs) -> FloatArray | None:
    """`over` of a `Competition`; 0 for what is running."""
    waits = ~jobs.running
    theirs = tenants.over_share(waiting, jobs.row[waits])
    if theirs is None:
        return None
    over = np.zeros(len(jobs.row))
    over[waits] = theirs
    return over
