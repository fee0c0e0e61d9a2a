"""What prefill is there to do, in which order, and how is a refusal worded? Parts of `scorpio`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from scorpio.core.latency import Number, StepModel
from scorpio.core.length_belief import LengthBelief
from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.queue import WaitingTable
from scorpio.core.slo import OnMiss
from scorpio.core.supply import PrefillSupply
from scorpio.core.views import (
    BoolArray,
    EngineLimits,
    FloatArray,
    IntArray,
    RequestView,
    Snapshot,
)

_MIN_RETRY_S = 1.0
Turn = tuple[int, int, int]  # row (>= 0 waiting, -1 - row running), tokens left, tokens in KV


@dataclass(frozen=True, slots=True)
class PrefillJobs:
    """Prefill still to do in order of the queue: `row` >= 0 waits, -1 - row is running already.

    deadline_s: when its client wants the first token; inf for none, -inf for one that comes first.
    work_s: its cost beside other work, attention to its own prefix included, no base cost.
    may_drop: it may be let go. rejectable: it is refused then; one that has begun, or with on_miss
        DEGRADE, goes behind all others.
    predicted: output tokens predicted, NaN for none. value: what serving it in time is worth.
    owed: jobs that stood back for so long that some time is theirs now.
    """

    row: IntArray
    deadline_s: FloatArray
    tokens: FloatArray
    prefix: FloatArray
    work_s: FloatArray
    may_drop: BoolArray
    rejectable: BoolArray
    predicted: FloatArray
    value: FloatArray
    owed: list[int]

    def cost_s(self, model: StepModel, lengths: LengthBelief) -> FloatArray:
        """Engine time that letting each go saves, for one unit of value: its prefill and the
        decodes it leads to; who is not refused is served later, so its decodes are not saved."""
        output = lengths.expected(self.predicted)
        decode_s = decode_work_s(model, self.prefix + self.tokens, output) * self.rejectable
        cost_s: FloatArray = (self.work_s + decode_s) / self.value
        return cost_s

    def turns(self, gone: IntArray, pay: bool) -> Iterator[Turn]:
        """Kept jobs in order, then those let go that are not refused; first of all, when `pay` is
        said, those that are owed."""
        first = self.owed if pay else []
        left = {*gone.tolist(), *first}
        kept = (job for job in range(len(self.row)) if job not in left)
        behind = (job for job in gone.tolist() if not self.rejectable[job] and job not in first)
        for job in chain(first, kept, behind):
            yield int(self.row[job]), int(self.tokens[job]), int(self.prefix[job])


def prefill_jobs(
    model: StepModel,
    snapshot: Snapshot,
    never: BoolArray | None,
    due_of: Callable[[RequestView], float],
    owed_s: float,
) -> PrefillJobs:
    """All unfinished prefills of the batch and all waiting requests that can be served at all.

    `due_of` is the queue's key: preempted requests come first, whatever their deadline. A prefill
    that has begun may be let go unless its answer has begun too or its client said WAIT. One that
    was due before `owed_s` has stood back for long enough to be owed some time.
    """
    owed: list[int] = []
    running, waiting = snapshot.running, snapshot.waiting
    which = slice(None) if never is None else ~never
    row, due_s, tokens = np.arange(len(waiting))[which], waiting.key[which], waiting.prefill_tokens
    deadline_s = np.where(np.isneginf(due_s), due_s, waiting.deadline_s[which])
    tokens, predicted = tokens[which], waiting.predicted_output_tokens[which]
    rejectable, value = waiting.rejectable[which], waiting.value[which]
    # Who never said when has no time to miss, however long the engine takes.
    may_drop = (rejectable | waiting.degradable[which]) & np.isfinite(deadline_s)
    prefix = waiting.cached_tokens[which]
    partial = (~running.is_decode).nonzero()[0]
    if len(partial):
        theirs_s = np.array([due_of(running.views[r]) for r in partial.tolist()])
        order = np.argsort(theirs_s, kind="stable")
        partial, theirs_s = partial[order], theirs_s[order]
        at = due_s.searchsorted(theirs_s)
        row = np.insert(row, at, -1 - partial)
        deadline_s = np.insert(deadline_s, at, running.deadline_s[partial])
        tokens = np.insert(tokens, at, running.prefill_left[partial])
        prefix = np.insert(prefix, at, running.context_tokens[partial])
        views = [running.views[r] for r in partial.tolist()]
        stands_back = np.array([view.slo.on_miss is not OnMiss.WAIT for view in views])
        stands_back &= running.output_tokens[partial] == 0
        places = at + np.arange(len(partial))
        owed = places[stands_back & (theirs_s < owed_s)].tolist()
        may_drop = np.insert(may_drop, at, stands_back)
        rejectable = np.insert(rejectable, at, False)
        predicted = np.insert(predicted, at, math.nan)  # not asked for: they are not refused
        value = np.insert(value, at, running.value[partial])
    work_s = prefill_work_s(model, tokens, prefix)
    return PrefillJobs(
        row, deadline_s, tokens, prefix, work_s, may_drop, rejectable, predicted, value, owed
    )


def prefill_work_s(model: StepModel, tokens: Number, prefix: Number) -> Number:
    """Time of so many prompt tokens beside other work, behind a prefix already in KV."""
    return tokens * (model.high_token_s + model.prefill_prefix_s * (prefix + 0.5 * tokens))


def decode_work_s(model: StepModel, context: Number, output: Number) -> Number:
    """Time of so many decodes beside other work, from this context on."""
    return output * (model.high_token_s + model.context_token_s * (context + 0.5 * output))


def hopeless(
    model: StepModel,
    limits: EngineLimits,
    waiting: WaitingTable,
    never_could: Callable[[RequestView], bool],
) -> tuple[BoolArray | None, list[Rejection]]:
    """Waiting rows (None: none) that even an idle engine could not serve now, and their refusals:
    for ever when it never could.

    A prompt that does not fit the KV pool would block vLLM's queue for ever, so it is refused
    whatever its on_miss says; a TPOT SLO out of reach only with on_miss REJECT.
    """
    prompts, alone_s = waiting.prompt_tokens, model.step_s(1, 0.0)
    longest = float(prompts.max(initial=0.0))
    tightest_s = float(waiting.tpot_slo_s.min(initial=math.inf))
    if longest < limits.kv_tokens and alone_s + model.context_token_s * longest <= tightest_s:
        return None, []
    too_long = (prompts >= limits.kv_tokens) & ~waiting.started
    too_fast = waiting.tpot_slo_s < alone_s + model.context_token_s * prompts
    never: BoolArray = too_long | (too_fast & waiting.rejectable)
    reject = []
    for row in np.flatnonzero(never).tolist():
        view, fits = waiting[row], not too_long[row]
        reason = RejectReason.TPOT_INFEASIBLE if fits else RejectReason.KV_INFEASIBLE
        retry_s = _MIN_RETRY_S if fits and not never_could(view) else None
        reject.append(Rejection(view.request_id, reason, None, retry_s))
    return never, reject


def refusals(
    waiting: WaitingTable,
    jobs: PrefillJobs,
    gone: IntArray,
    supply: PrefillSupply,
    over: FloatArray | None,
    wasteful: Callable[[float], bool],
    never_could: Callable[[RequestView], bool],
) -> list[Rejection]:
    """Refusals of those let go, each with the TTFT it would get and when to come back.

    over: > 0 for jobs of tenants that have too much (None: nobody's). wasteful: may the batch not
    be asked for this TPOT? never_could: not even an idle engine could serve it in time.
    """
    gone = gone[jobs.rejectable[gone]]
    if not len(gone):
        return []
    stays = np.ones(len(jobs.row))
    stays[gone] = 0.0
    # Behind all who stay: in its own place it might be early, at the price of the others.
    queued_s = float((jobs.work_s * stays).sum()) + jobs.work_s[gone]
    done_s = supply.done_s(queued_s).tolist()
    refused = []
    for job, done in zip(gone.tolist(), done_s, strict=True):
        view = waiting[int(jobs.row[job])]
        retry_s = None if never_could(view) else max(done - view.deadline_s, _MIN_RETRY_S)
        ttft_s: float | None = max(done - view.arrival_s, 0.0)
        if over is not None and over[job] > 0.0:
            reason = RejectReason.OVER_QUOTA
        elif supply.decode_s > 0.0 and wasteful(view.slo.tpot_s):
            reason, ttft_s = RejectReason.TPOT_INFEASIBLE, None  # no TTFT beside these others
        else:
            reason = RejectReason.TTFT_INFEASIBLE
        refused.append(Rejection(view.request_id, reason, ttft_s, retry_s))
    return refused
