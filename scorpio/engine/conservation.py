"""Would a planned step come to nothing while a request could run? Then the step is filled.

A plan is about the requests as the policy sees them; whether one of them can be computed right now
is vLLM's to say. Decided here, before vLLM is called: it has no second pass in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from scorpio.core.lora import AdapterPlaces
from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.gated_queue import MOST_SCANNED, GatedQueue
from scorpio.engine.view.startable import can_continue, cannot_start


def filled(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: Sequence[str] | None,
    plan: StepPlan,
    snapshot: Snapshot,
) -> StepPlan | None:
    """What to do instead of a plan that would schedule nothing; None = the plan is fine.

    starting: those that the plan would let start or resume, in order; None: all, as in stock. The
    answer lets all run, and start in the policy's order, and refuses none: a step that the
    policy did not foresee is none to decide refusals from.
    """
    sits_out = {*plan.skip_decode, *plan.defer_prefill}
    idle = []
    for row, request in enumerate(scheduler.running):
        if can_continue(request, scheduler.current_step, scheduler.max_model_len):
            if row not in sits_out:
                return None
            idle.append(row)
    if any(not cannot_start(request) for request in scheduler.kv_holding_waiting):
        return None  # vLLM starts these by itself, before all others
    seats = snapshot.limits.max_num_seqs - len(scheduler.running)
    if seats > 0:
        heads = queue.startable() if starting is None else starting
        if heads and _fits(queue, heads[0], snapshot):
            return None
        others = _others(queue, plan, snapshot)
    else:
        others = []
    return StepPlan(admit=others) if idle or others else None


def with_a_decode(scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> StepPlan:
    """The plan, or the same without skips where the decodes it does not skip cannot run anyway:
    their last token is in flight, and no stream would move beside the prefills (invariant 8)."""
    if not plan.skip_decode:
        return plan
    skipped = set(plan.skip_decode)
    for row in np.flatnonzero(snapshot.running.is_decode).tolist():
        request = scheduler.running[row]
        moves = can_continue(request, scheduler.current_step, scheduler.max_model_len)
        if moves and row not in skipped:
            return plan
    return replace(plan, skip_decode=())


def _others(queue: GatedQueue, plan: StepPlan, snapshot: Snapshot) -> list[str]:
    """Waiting requests that vLLM would start, in the policy's order; none that is to be refused."""
    refused = {rejection.request_id for rejection in plan.reject}
    able = (
        view
        for view in islice(queue.table, MOST_SCANNED)
        if view.request_id not in refused and _fits(queue, view.request_id, snapshot)
    )
    return [view.request_id for view in AdapterPlaces(snapshot).of(able)]


def _fits(queue: GatedQueue, request_id: str, snapshot: Snapshot) -> bool:
    """vLLM starts a request when its whole prompt finds room, and gives up at the first that does
    not. (Blocks shared with running ones need no room: where that decides, it says no too often.)
    """
    return queue.get(request_id).num_tokens <= snapshot.kv_free_tokens
