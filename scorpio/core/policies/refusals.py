"""How is a refusal worded: why, with which TTFT would it do, and when shall it come back?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.policies.crowd import Crowd
from scorpio.core.policies.prefill_jobs import MIN_RETRY_S, PrefillJobs
from scorpio.core.queue import WaitingTable
from scorpio.core.supply import PrefillSupply
from scorpio.core.views import FloatArray, IntArray, RequestView

_NONE = (0.0, -1.0)  # no beginning in common
_CUSHION = 1.25  # times the forecast: newcomers and noise may not break what is offered


@dataclass(frozen=True, slots=True)
class RefusalRule:
    """never_could: not even an idle engine could serve it in time. wasteful: may the batch not be
    asked for this TPOT? over: > 0 for jobs of tenants that have too much (None: nobody's)."""

    never_could: Callable[[RequestView], bool]
    wasteful: Callable[[float], bool]
    over: FloatArray | None


def refusals(
    now_s: float,
    waiting: WaitingTable,
    jobs: PrefillJobs,
    gone: IntArray,
    supply: PrefillSupply,
    crowd: Crowd,
    rule: RefusalRule,
) -> list[Rejection]:
    """Refusals of those let go, each told a time of its own, which is booked in `crowd`."""
    gone = np.sort(gone[jobs.rejectable[gone]])
    if not len(gone):
        return []
    stays = np.ones(len(jobs.row))
    stays[gone] = 0.0
    # Behind all who stay (in its own place it might be early, at the price of the others), behind
    # those that were told to come back, and behind those refused beside it that are due earlier.
    before_s = float((jobs.work_s * stays).sum()) + crowd.booked_s
    own_s = _own_s(waiting, jobs, gone)
    done_s = supply.done_s(before_s + np.cumsum(own_s))
    # From now on: what it has waited already is no part of what a next try will take.
    ttft_s = _CUSHION * (done_s - now_s)
    refused = list(_worded(waiting, jobs, gone, ttft_s, supply, rule))
    views = [waiting[row] for row in jobs.row[gone].tolist()]
    crowd.book(
        now_s,
        waiting,
        (
            (view, refusal.retry_after_s, work_s)
            for view, refusal, work_s in zip(views, refused, own_s.tolist(), strict=True)
            if refusal.retry_after_s is not None
        ),
    )
    return refused


def _own_s(waiting: WaitingTable, jobs: PrefillJobs, gone: IntArray) -> FloatArray:
    """Work of each as its client may hear of it: whole, whatever the cache holds; what it has in
    common with others of its own tenant that wait counts once."""
    own_s = jobs.whole_s[gone].copy()
    rows = jobs.row[gone]
    if not waiting.shared_id[rows].any():
        return own_s
    stay = np.ones(len(jobs.row), dtype=np.bool_)
    stay[gone] = False
    kept = jobs.row[stay]
    seen = set(_beginnings(waiting, kept[kept >= 0])) - {_NONE}
    for job, beginning in enumerate(_beginnings(waiting, rows)):
        if beginning in seen:
            own_s[job] = jobs.rest_s[gone[job]]
        elif beginning[0]:
            seen.add(beginning)
    return own_s


def _beginnings(waiting: WaitingTable, rows: IntArray) -> list[tuple[float, float]]:
    pairs = zip(waiting.shared_id[rows].tolist(), waiting.tenant[rows].tolist(), strict=True)
    return [pair if pair[0] else _NONE for pair in pairs]


def _worded(
    waiting: WaitingTable,
    jobs: PrefillJobs,
    gone: IntArray,
    ttft_s: FloatArray,
    supply: PrefillSupply,
    rule: RefusalRule,
) -> Iterator[Rejection]:
    for job, offered_s in zip(gone.tolist(), ttft_s.tolist(), strict=True):
        view = waiting[int(jobs.row[job])]
        slo_s = min(view.slo.ttft_s, view.slo.e2e_s)
        retry_s = None if rule.never_could(view.uncached) else max(offered_s - slo_s, MIN_RETRY_S)
        attainable_s: float | None = offered_s
        if rule.over is not None and rule.over[job] > 0.0:
            reason = RejectReason.OVER_QUOTA
        elif supply.decode_s > 0.0 and rule.wasteful(view.slo.tpot_s):
            reason, attainable_s = RejectReason.TPOT_INFEASIBLE, None  # none beside these others
        else:
            reason = RejectReason.TTFT_INFEASIBLE
        yield Rejection(view.request_id, reason, attainable_s, retry_s)
