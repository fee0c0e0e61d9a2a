"""What prefill is there to do, and in which order?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import StepModel
from scorpio.core.on_time import to_shed
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.shared_work import shared_work
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss
from scorpio.core.supply import PrefillSupply
from scorpio.core.work import decode_work_s, prefill_work_s

Column = TypeVar("Column", FloatArray, IntArray, BoolArray)
_TURNS = 64  # looked at together
_KEEPS = 0.5  # of the time from arrival to deadline: from then on a prompt keeps its KV free


class Turn(NamedTuple):
    """One job when its turn has come. row: of the running batch when it is `running`, else of the
    waiting table. prefix: tokens in KV.

    behind: it stands behind all others. bound: its own TPOT SLO must be kept when it joins.
    keeps: when it finds too little KV, none behind it takes what it needs. shared_id: of a
    beginning that others compute too; 0 = none. `tokens` is then what is left behind it.
    """

    row: int
    tokens: int
    prefix: int
    behind: bool = False
    bound: bool = True
    keeps: bool = False
    shared_id: int = 0
    running: bool = False


@dataclass(frozen=True, slots=True)
class PrefillJobs:
    """Prefill still to do, in order of the queue. `row`: of the running batch where `running`, else
    of the waiting table.

    deadline_s: when its client wants the first token; inf for none, -inf for one that comes first.
    work_s: its cost beside other work, attention to its own prefix included, no base cost; 0 for
        one that stands behind, which takes no time from the others.
    common: of tokens, those that others need too. shared_id: see `Turn`.
    may_drop: it may be shed. rejectable: it is refused then; one with on_miss DEGRADE goes behind
        all others.
    predicted, most: output tokens predicted, NaN for none, and asked for. value: what serving it
        in time is worth.
    resumed: its answer has begun, so it goes on whatever was promised.
    behind: see `sorted_out`. start_s: of the step; one that has waited for `patience_s` by then
        has waited for longer than any should: it is overdue.
    """

    row: IntArray
    running: BoolArray
    arrival_s: FloatArray
    deadline_s: FloatArray
    tokens: FloatArray
    prefix: FloatArray
    work_s: FloatArray
    common: FloatArray
    shared_id: FloatArray
    may_drop: BoolArray
    rejectable: BoolArray
    predicted: FloatArray
    most: FloatArray
    value: FloatArray
    resumed: BoolArray
    behind: BoolArray
    start_s: float
    patience_s: float

    @property
    def in_line(self) -> BoolArray:
        """Those that wait for a seat, and do not stand behind all others."""
        in_line: BoolArray = ~(self.running | self.behind)
        return in_line

    def cost_s(self, model: StepModel, lengths: LengthBelief) -> FloatArray:
        """Engine time that shedding each saves, for one unit of value: its prefill and the
        decodes it leads to; without a refusal it is served later, so its decodes are not saved."""
        output = lengths.expected(self.predicted, self.most)
        decode_s = decode_work_s(model, self.prefix + self.tokens, output) * self.rejectable
        common_s = prefill_work_s(model, self.common, self.prefix)
        work_s = self.work_s - np.minimum(common_s, self.work_s)
        cost_s: FloatArray = (work_s + decode_s) / self.value
        return cost_s

    def whole_s(self, model: StepModel, chosen: IntArray) -> FloatArray:
        """Cost of these with nothing in the prefix cache, which is what their clients may be told:
        whose prompts are cached is no other client's business."""
        tokens = (self.tokens + self.prefix)[chosen]
        return prefill_work_s(model, tokens, np.zeros_like(tokens))

    def sorted_out(self, supply: PrefillSupply) -> PrefillJobs:
        """The same, with those put behind that no other shall be late for.

        One without a deadline is good whenever it comes. One that cannot be on time, and is not
        refused for that, cannot be good any more: because its time is up, or because others that
        may be neither refused nor put off by their own word have a better claim.
        """
        behind: BoolArray = np.isinf(self.deadline_s) & ~self.resumed
        asks = (~(self.rejectable | self.resumed)).nonzero()[0]
        behind[asks] |= supply.soonest_s(self.work_s[asks]) > self.deadline_s[asks]
        firm = asks[~(behind | self.may_drop)[asks]]
        if len(firm):
            deadline_s, work_s = self.deadline_s[firm], self.work_s[firm]
            droppable = np.ones(len(firm), dtype=np.bool_)
            late = to_shed(deadline_s, work_s, work_s.copy, droppable, supply.done_s)
            behind[firm[late]] = True
        if not behind.any():
            return self
        return replace(
            self,
            behind=behind,
            work_s=np.where(behind, 0.0, self.work_s),
            may_drop=self.may_drop & ~behind,
        )

    def turns(
        self, shed_jobs: IntArray, pay: bool, passed: BoolArray | None = None
    ) -> Iterator[Turn]:
        """Kept jobs in order; then, as they came, those behind and those shed that are not
        refused. First of all, when `pay` is said, those of them that are overdue. passed: waiting
        rows without a turn among those kept, for they could not join."""
        behind = self._all_behind(shed_jobs)
        kept = ~behind
        kept[shed_jobs] = False
        if passed is not None:
            kept &= self.running | ~passed[np.where(self.running, 0, self.row)]
        last = self._by_arrival(behind)
        overdue = int(np.count_nonzero(self.overdue(last))) if pay else 0
        for jobs in (last[:overdue], kept.nonzero()[0], last[overdue:]):
            for job in _one_by_one(jobs):
                yield self._turn(job, bool(behind[job]))

    def overdue_first(self, shed_jobs: IntArray) -> IntArray:
        """Those behind the others that are overdue, the longest waiting first."""
        last = self._by_arrival(self._all_behind(shed_jobs))
        return last[self.overdue(last)]

    def waiting_rows(self, chosen: IntArray) -> list[int]:
        """Rows of the waiting table, of those of these jobs that wait."""
        rows: list[int] = self.row[chosen[~self.running[chosen]]].tolist()
        return rows

    def overdue(self, jobs: IntArray) -> BoolArray:
        """Which of these have waited for longer than any should?"""
        overdue: BoolArray = self.start_s - self.arrival_s[jobs] > self.patience_s
        return overdue

    def _all_behind(self, shed_jobs: IntArray) -> BoolArray:
        behind = self.behind.copy()
        behind[shed_jobs] = ~self.rejectable[shed_jobs]
        return behind

    def _by_arrival(self, chosen: BoolArray) -> IntArray:
        jobs = chosen.nonzero()[0]
        return jobs[np.argsort(self.arrival_s[jobs], kind="stable")]

    def _turn(self, job: int, behind: bool) -> Turn:
        deadline_s, waited_s = float(self.deadline_s[job]), self.start_s - self.arrival_s[job]
        # Of those without a deadline, one that is overdue gives its TPOT up, or is refused.
        untimed = math.isinf(deadline_s)
        held = untimed and (self.rejectable[job] or waited_s <= self.patience_s)
        where = int(self.row[job]), int(self.tokens[job]), int(self.prefix[job])
        # One that may have it at any time, or has waited for half of its time, is not overtaken by
        # one that comes later and is smaller.
        keeps = untimed or waited_s >= _KEEPS * (deadline_s - self.arrival_s[job])
        bound, shared_id = bool(not behind or held), int(self.shared_id[job])
        return Turn(*where, behind, bound, bool(keeps), shared_id, bool(self.running[job]))


def _one_by_one(jobs: IntArray) -> Iterator[int]:
    """As they are asked for: of a long queue a step serves the head."""
    for first in range(0, len(jobs), _TURNS):
        yield from jobs[first : first + _TURNS].tolist()


def prefill_jobs(
    step: StepContext, never: BoolArray | None, due_of: Callable[[RequestView], float]
) -> PrefillJobs:
    """All unfinished prefills of the batch and all waiting requests that can be served at all.

    `due_of` is the queue's key: preempted requests come first, whatever their deadline. A prefill
    that has begun may be shed unless its answer has begun too or its client said WAIT.
    never: waiting rows that cannot be served (None: not one).
    """
    model, snapshot = step.model, step.snapshot
    running, waiting = snapshot.running, snapshot.waiting
    which = slice(None) if never is None else ~never
    row, due_s = np.arange(len(waiting))[which], waiting.key[which]
    is_running = np.zeros(len(row), dtype=np.bool_)
    work = shared_work(waiting, which, snapshot.computing)
    tokens, prefix, common, shared_id = work.tokens, work.prefix, work.common, work.shared_id
    resumed, arrival_s = waiting.started[which], waiting.arrival_s[which]
    deadline_s = np.where(resumed, -math.inf, waiting.deadline_s[which])
    predicted, tpot_s = waiting.predicted_output_tokens[which], waiting.tpot_slo_s[which]
    most, value = waiting.max_tokens[which], waiting.value[which]
    rejectable = waiting.rejectable[which]
    # Without a deadline there is no time to miss, however long the engine takes.
    may_drop = (rejectable | waiting.degradable[which]) & np.isfinite(deadline_s)
    partial = (~running.is_decode).nonzero()[0]
    if len(partial):
        theirs_s = np.array([due_of(running.views[r]) for r in partial.tolist()])
        order = np.argsort(theirs_s, kind="stable")
        partial, theirs_s = partial[order], theirs_s[order]
        put = _between(due_s.searchsorted(theirs_s), len(row))
        row, is_running = put(row, partial), put(is_running, True)
        deadline_s = put(deadline_s, running.deadline_s[partial])
        tokens = put(tokens, running.prefill_left[partial])
        prefix = put(prefix, running.context_tokens[partial])
        views = [running.views[r] for r in partial.tolist()]
        arrival_s = put(arrival_s, [view.arrival_s for view in views])
        has_answer = running.output_tokens[partial] > 0
        resumed = put(resumed, has_answer)
        stands_back = np.array([view.slo.on_miss is not OnMiss.WAIT for view in views])
        may_drop = put(may_drop, stands_back & ~has_answer)
        rejectable = put(rejectable, running.rejectable[partial] & step.proven)
        predicted = put(predicted, [view.predicted_output_tokens for view in views])
        most = put(most, [view.max_tokens for view in views])
        value = put(value, running.value[partial])
        tpot_s = put(tpot_s, running.tpot_slo_s[partial])
        common, shared_id = put(common, 0.0), put(shared_id, 0.0)
    firm = (is_running | ~rejectable & ~resumed).nonzero()[0]
    broken = firm[
        _out_of_reach(model, step.snapshot.between_steps_s(tpot_s[firm]), (prefix + tokens)[firm])
    ]
    deadline_s[broken] = np.minimum(deadline_s[broken], arrival_s[broken])
    work_s, behind = prefill_work_s(model, tokens, prefix), np.zeros(len(row), dtype=np.bool_)
    return PrefillJobs(
        row, is_running, arrival_s, deadline_s, tokens, prefix, work_s, common, shared_id, may_drop,
        rejectable, predicted, most, value, resumed, behind, step.start_s, step.options.patience_s,
    )  # fmt: skip


def _between(at: IntArray, n: int) -> Callable[[Column, ArrayLike], Column]:
    """Puts values into a column of n, each before row at[i]: `np.insert`, which would find the
    places anew for each column. at: in order."""
    theirs = at + np.arange(len(at))
    mine = np.ones(n + len(at), dtype=np.bool_)
    mine[theirs] = False

    def put(column: Column, values: ArrayLike) -> Column:
        both = np.empty(len(mine), dtype=column.dtype)
        both[mine], both[theirs] = column, values
        return both

    return put


def _out_of_reach(model: StepModel, every_s: FloatArray, context: FloatArray) -> BoolArray:
    """Even alone: such a promise is broken on arrival, whatever the deadline."""
    return every_s < model.step_s(1, 0.0) + model.context_token_s * context
