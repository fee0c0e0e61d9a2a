"""Which requests are refused, why, with which TTFT would it do, and when shall they come back?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.plan import LEAST_RETRY_S, MOST_RETRY_S, Rejection, RejectReason
from scorpio.core.policies.scorpio.admission import Admission, wasteful
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import PrefillJobs
from scorpio.core.policies.scorpio.kv_room import KvRoom
from scorpio.core.policies.scorpio.retry_after import Told
from scorpio.core.policies.scorpio.shed import Competition, Outcome
from scorpio.core.policies.scorpio.turnover import lasting
from scorpio.core.request import RequestView
from scorpio.core.supply import PrefillSupply
from scorpio.core.tenants import tenant_key
from scorpio.core.unservable import sweep_unservable
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import prefill_work_s, usually_s

_MOST_UNKEPT = 64  # looked at in a step


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """What the wording of a refusal depends on beside the step.

    never_could: not even an idle engine could serve it in time. over: > 0 for jobs of tenants that
    have too much (None: no job's).
    """

    never_could: Callable[[RequestView], bool]
    over: FloatArray | None


def unservable(
    step: StepContext, never_could: Callable[[RequestView], bool]
) -> tuple[BoolArray | None, list[Rejection]]:
    """Waiting rows (None: none) that even an idle engine could not serve at today's speed, and
    their refusals: for ever when it never could."""
    waiting, token_s = step.snapshot.waiting, step.model.context_token_s
    alone_s, too_fast = step.model.step_s(1, 0.0), None
    longest = float(waiting.prompt_tokens.max(initial=0.0))
    every_s = step.snapshot.between_steps_s(waiting.tpot_slo_s)
    if alone_s + token_s * longest > every_s.min(initial=math.inf):
        too_fast = every_s < alone_s + token_s * waiting.prompt_tokens

    def never(view: RequestView) -> bool:
        return never_could(view.uncached)

    return sweep_unservable(waiting, step.snapshot.limits, too_fast, never)


def unkept(waiting: WaitingTable, jobs: PrefillJobs, batch: Admission) -> IntArray:
    """Those that stated a TPOT SLO alone and have waited for as long as any should for a batch
    that keeps it. They are refused."""
    behind = (jobs.behind & jobs.rejectable & ~jobs.running).nonzero()[0]
    overdue = behind[jobs.overdue(behind)][:_MOST_UNKEPT]
    late = [job for job in overdue.tolist() if not batch.keeps_target(waiting[int(jobs.row[job])])]
    return np.array(late, dtype=np.int64)


def too_tight(waiting: WaitingTable, jobs: PrefillJobs, late: IntArray) -> list[Rejection]:
    """Refusals of those whose TPOT SLO the batch does not keep."""
    reason = RejectReason.TPOT_INFEASIBLE
    views = (waiting[row] for row in jobs.row[late].tolist())
    return [Rejection(view.request_id, reason, None, None) for view in views]


def crowded(step: StepContext, jobs: PrefillJobs, found: Outcome) -> PrefillSupply:
    """What is left for prefill once those that stay decode beside the batch: what lasts, at
    least."""
    model, decodes, supply = step.model, step.decodes, lasting(step, jobs, found.supply)
    limits = step.snapshot.limits  # a session between two inputs keeps its seat
    stay = np.ones(len(jobs.row), dtype=np.bool_)
    stay[found.shed_jobs] = False
    seats = max(limits.max_num_seqs - decodes.count, 0)
    tokens = (jobs.tokens + jobs.prefix)[stay][:seats]
    context = min(decodes.context_tokens + float(tokens.sum()), float(limits.kv_tokens))
    grown_s = model.step_s(decodes.count + len(tokens), context)
    most_s = (1.0 - max(supply.lasting_share, step.prefill_share)) * supply.later_step_s
    decode_s = max(min(grown_s, most_s), decodes.alone_s)
    first_s = supply.first_step_s - decodes.alone_s + decode_s
    return replace(supply, first_step_s=first_s, decode_s=decode_s)


def refusals(
    step: StepContext, between: Competition, found: Outcome, rule: RefusalRule
) -> list[Rejection]:
    """Refusals of those shed, each told a time of its own, which is booked in the crowd."""
    jobs, crowd, waiting, now_s = between.jobs, between.crowd, step.snapshot.waiting, step.now_s
    supply, shed_jobs = (
        crowded(step, jobs, found),
        np.sort(found.shed_jobs[jobs.rejectable[found.shed_jobs]]),
    )
    if not len(shed_jobs):
        return []
    stays = np.ones(len(jobs.row))
    stays[shed_jobs] = 0.0
    # Behind all that stay (in its own place it might be early, at the price of the others), behind
    # those that were told to come back, and behind those refused beside it that are due earlier.
    before_s = float((jobs.work_s * stays).sum()) + crowd.booked_s
    views = _views(step, jobs, shed_jobs)
    own_s = _own_s(step, jobs, shed_jobs, views)
    done_s = supply.done_s(before_s + np.cumsum(own_s))
    room_s = _kv_s(step, jobs, shed_jobs, own_s)
    if between.seats is not None:
        before = np.count_nonzero(stays * jobs.in_line) + crowd.booked
        place = before + np.arange(1.0, len(shed_jobs) + 1.0)
        room_s = np.maximum(room_s, between.seats.free_s(place))
    done_s = np.maximum(done_s, room_s + own_s / supply.share)
    # From now on: what it has waited already is no part of what a next try will take.
    from_now_s = done_s - now_s
    ttft_s = crowd.offered.times * from_now_s
    # The first of all behind a running step. More than its SLO: out of reach until the load falls.
    own_step_s = usually_s(step.model, supply.later_step_s)
    first_s = crowd.later.times * (own_s / supply.share + own_step_s)
    slo_s = np.array([min(view.slo.ttft_s, view.slo.e2e_s) for view in views])
    retry_s = np.maximum(crowd.later.times * from_now_s - slo_s, LEAST_RETRY_S)
    retry_s[(first_s > slo_s) | (retry_s > MOST_RETRY_S)] = np.nan  # no time can be promised
    over = np.zeros(len(shed_jobs)) if rule.over is None else rule.over[shed_jobs]
    refused, told = [], []
    for view, much, offered_s, again_s, work_s in zip(
        views, over, ttft_s.tolist(), retry_s.tolist(), own_s.tolist(), strict=True
    ):
        reason = _reason(step, view, much > 0.0, supply.decode_s > 0.0)
        # Beside these others there is no TTFT that would do for a TPOT out of reach.
        attainable_s = None if reason is RejectReason.TPOT_INFEASIBLE else offered_s
        never = rule.never_could(view.uncached)
        later_s = None if never or math.isnan(again_s) else again_s
        refused.append(Rejection(view.request_id, reason, attainable_s, later_s, never))
        if not never:
            told.append(Told(view, offered_s, later_s, work_s))
    crowd.book(now_s, waiting, told)
    return refused


def _kv_s(
    step: StepContext, jobs: PrefillJobs, shed_jobs: IntArray, own_s: FloatArray
) -> FloatArray:
    """Absolute time at which KV is there for each, behind all that stay and those before it. What
    several hold in common counts once, as far as it does in `own_s`."""
    stay = ~jobs.running
    stay[shed_jobs] = False
    need = step.snapshot.limits.kv_need
    others = float(need.of(jobs.tokens[stay]).sum())  # what is in the prefix cache is there
    whole_s = np.maximum(jobs.whole_s(step.model, shed_jobs), 1e-9)
    own = need.of((jobs.tokens + jobs.prefix)[shed_jobs]) * np.minimum(own_s / whole_s, 1.0)
    return KvRoom(step).free_s(others + np.cumsum(own))


def _views(step: StepContext, jobs: PrefillJobs, chosen: IntArray) -> list[RequestView]:
    running, waiting = step.snapshot.running.views, step.snapshot.waiting
    begun = jobs.running[chosen].tolist()
    rows = zip(jobs.row[chosen].tolist(), begun, strict=True)
    return [running[row] if has_begun else waiting[row] for row, has_begun in rows]


def _own_s(
    step: StepContext, jobs: PrefillJobs, shed_jobs: IntArray, views: Sequence[RequestView]
) -> FloatArray:
    """Work of each as its client may hear of it: whole, whatever the cache holds; what it has in
    common with others of its own tenant counts once."""
    model, waiting, own_s = step.model, step.snapshot.waiting, jobs.whole_s(step.model, shed_jobs)
    if not any(view.shared_id for view in views):
        return own_s
    stay = ~jobs.running
    stay[shed_jobs] = False
    kept = jobs.row[stay]
    pairs = zip(waiting.shared_id[kept].tolist(), waiting.tenant[kept].tolist(), strict=True)
    seen: set[tuple[float, float]] = set(pairs)
    for job, view in enumerate(views):
        beginning: tuple[float, float] = view.shared_id, tenant_key(view.tenant)
        if not view.shared_id:
            continue
        if beginning in seen:
            own_s[job] -= prefill_work_s(model, float(view.shared_tokens), 0.0)
        seen.add(beginning)
    return own_s


def _reason(step: StepContext, view: RequestView, over: bool, decodes: bool) -> RejectReason:
    """over: its tenant has too much. decodes: would there be any beside it?"""
    if over:
        return RejectReason.OVER_QUOTA
    target_s = step.snapshot.between_steps_s(view.slo.tpot_s)
    if decodes and wasteful(step, target_s, step.decodes.tightest_s):
        return RejectReason.TPOT_INFEASIBLE
    return RejectReason.TTFT_INFEASIBLE
