"""Which requests are shed so that the others are on time? TTFT guard of `scorpio`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.on_time import MAX_DROPS_PER_STEP, to_shed
from scorpio.core.policies.scorpio.class_shares import ClassShares
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.plan_budget import within
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.seats import Seats
from scorpio.core.policies.scorpio.turnover import lasting
from scorpio.core.supply import PrefillSupply
from scorpio.core.waiting import WaitingTable

Column = TypeVar("Column", BoolArray, IntArray)
# Of the time until a seat is free. When answers end is not known well; an early refusal that was
# not needed costs a promise, a late one only its client's time.
_HOPE = 0.5
QUOTED_WEIGHT = 0.1  # of its cost counts for a request that was quoted what it asks for


@dataclass(frozen=True, slots=True)
class Competition:
    """What decides between the jobs of a step.

    over: fair shares that each job's tenant had, where that is too much, else 0; None: nowhere.
    crowd: which of them were told to come back. seats: None where all find one.
    """

    jobs: PrefillJobs
    over: FloatArray | None
    crowd: Crowd
    seats: Seats | None = None


class Outcome(NamedTuple):
    """The jobs shed, and the prefill time that the others have."""

    supply: PrefillSupply
    shed_jobs: IntArray


def shed(step: StepContext, between: Competition, supply: PrefillSupply) -> Outcome:
    """The jobs that cost most, so many that all others are on time with so much prefill time, and
    find a seat in time."""
    jobs, over = between.jobs, between.over
    work_s = jobs.work_s
    if over is not None:
        work_s = np.where(over > 0.0, step.options.tenant_room, 1.0) * work_s

    @cache
    def cost_s() -> FloatArray:
        return weighed(step, between, jobs.cost_s(step.model, step.lengths))

    most = within(MAX_DROPS_PER_STEP, step.decodes.alone_s)
    given = jobs.deadline_s, work_s, cost_s, jobs.may_drop
    shed_jobs = to_shed(*given, supply.done_s, most)
    if len(shed_jobs):  # not as long as no job is late with what is left today
        supply = lasting(step, jobs, supply)
        shed_jobs = to_shed(*given, supply.done_s, most)
    if between.seats is not None:
        left = most - len(shed_jobs)
        seatless = _without_seat(step, between, between.seats, supply, shed_jobs, left)
        shed_jobs = np.concatenate([shed_jobs, seatless])
    return Outcome(supply, shed_jobs)


def _without_seat(
    step: StepContext,
    between: Competition,
    seats: Seats,
    supply: PrefillSupply,
    gone: IntArray,
    most: int,
) -> IntArray:
    """Of the others those to shed so that the rest find a seat in time. A request holds its seat
    for as long as its answer lasts, so here it costs by its length; of equal ones the last goes."""
    jobs = between.jobs
    takes = jobs.in_line
    takes[gone] = False
    own_s = supply.decode_s + jobs.work_s / supply.share
    deadline_s = np.where(takes, jobs.deadline_s - own_s, np.inf)

    def length() -> FloatArray:
        tokens = step.lengths.expected(jobs.predicted, jobs.most) / jobs.value
        return weighed(step, between, tokens) * (1.0 + 1e-9 * np.arange(len(tokens)))

    free_s = seats.free_s(np.arange(np.count_nonzero(takes) + 1, dtype=np.float64))
    # Hope lets the line grow: one that was told when to come would stand behind too many.
    hope = 1.0 if between.crowd.some_back else _HOPE
    soonest_s = step.start_s + hope * (free_s - step.start_s)

    def found_s(place: FloatArray) -> FloatArray:
        at: FloatArray = soonest_s[place.astype(np.int64)]
        return at

    place = takes.astype(np.float64)
    return to_shed(deadline_s, place, length, jobs.may_drop & takes, found_s, most)


def weighed(step: StepContext, between: Competition, cost_s: FloatArray) -> FloatArray:
    """What each job costs: the dearest goes first. Less for one that was told to come back or
    quoted what it asks for, and more than any other's for one of a tenant that has too much."""
    jobs, over = between.jobs, between.over
    # What was promised to a request binds after it has begun, too.
    waiting, begun = step.snapshot.waiting, jobs.running
    views = [step.snapshot.running.views[row] for row in jobs.row[begun].tolist()]
    if between.crowd.some_back:
        seqs = _of_jobs(jobs, waiting.seqs(), [view.seq for view in views])
        cost_s = np.where(between.crowd.is_back(seqs), between.crowd.weight, 1.0) * cost_s
    if waiting.quoted.any() or any(view.quoted for view in views):
        quoted = _of_jobs(jobs, waiting.quoted, [view.quoted for view in views])
        cost_s = np.where(quoted, QUOTED_WEIGHT, 1.0) * cost_s
    return cost_s if over is None else cost_s + over * cost_s.max()


def _of_jobs(jobs: PrefillJobs, waiting: Column, begun: Sequence[int]) -> Column:
    """One value for each job, out of those of all waiting rows and those of the begun jobs."""
    values = np.empty(len(jobs.row), dtype=waiting.dtype)
    values[~jobs.running] = waiting[jobs.row[~jobs.running]]
    values[jobs.running] = begun
    return values


def over_share(tenants: ClassShares, waiting: WaitingTable, jobs: PrefillJobs) -> FloatArray | None:
    """`over` of a `Competition`; 0 for what is running."""
    waits = ~jobs.running
    theirs = tenants.over_share(waiting, jobs.row[waits])
    if theirs is None:
        return None
    over = np.zeros(len(jobs.row))
    over[waits] = theirs
    return over
