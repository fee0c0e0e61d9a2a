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
from vllm.v1.request import Request

from scorpio.core.lora import AdapterPlaces
from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.gated_queue import MOST_SCANNED, GatedQueue
from scorpio.engine.view.encoder import EncoderRoom
from scorpio.engine.view.kv_groups import fits
from scorpio.engine.view.remote_kv import remote_tokens, returning
from scorpio.engine.view.startable import can_continue


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
    refused = {rejection.request_id for rejection in plan.reject}
    idle, room = [], EncoderRoom(scheduler)
    for row, request in enumerate(scheduler.running):
        if request.request_id in refused:
            continue
        able = can_continue(request, scheduler.current_step, scheduler.max_model_len)
        if able and _is_given(room, request, snapshot):
            if row not in sits_out:
                return None
            idle.append(row)
    if any(_is_given(room, request, snapshot) for request in returning(scheduler)):
        return None  # vLLM starts these by itself, before all others
    seats = snapshot.limits.max_num_seqs - len(scheduler.running)
    if seats > 0:
        heads = queue.startable() if starting is None else starting
        if heads and _fits(scheduler, queue, heads[0], snapshot):
            return None
        others = _others(scheduler, queue, plan, snapshot)
    else:
        others = []
    return StepPlan(admit=others) if idle or others else None


def with_others_behind(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: list[str] | None,
    plan: StepPlan,
    snapshot: Snapshot,
    idled: bool,
) -> list[str] | None:
    """Those that start, and behind them all others, where nothing else would be computed: a
    connector may load the KV of those that the plan starts, and then they compute nothing now.
    That is known of a prompt that another engine has read, and found out after a step in which
    nothing was computed (idled): else the policy's admission stands."""
    if scheduler.connector is None or starting is None or not starting or returning(scheduler):
        return starting
    if scheduler.vllm_config.kv_transfer_config.kv_role == "kv_producer":
        return starting  # it loads nothing
    if not (idled or all(remote_tokens(queue.get(i)) for i in starting)):
        return starting
    sits_out = {*plan.skip_decode, *plan.defer_prefill}
    for row, request in enumerate(scheduler.running):
        moves = can_continue(request, scheduler.current_step, scheduler.max_model_len)
        if moves and row not in sits_out:
            return starting
    return [*starting, *_others(scheduler, queue, plan, snapshot, starting)]


def _is_given(room: EncoderRoom, request: Request, snapshot: Snapshot) -> bool:
    """Its next token may be an image's that the encoder cannot take."""
    computed = request.num_computed_tokens
    left = request.num_tokens_with_spec + request.num_output_placeholders - computed
    return room.tokens(request, computed, min(left, snapshot.limits.token_budget)) > 0


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


def _others(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    plan: StepPlan,
    snapshot: Snapshot,
    planned: Sequence[str] = (),
) -> list[str]:
    """Waiting requests that vLLM would start behind the planned ones, in the policy's order; none
    that is to be refused."""
    passed = {*planned, *(rejection.request_id for rejection in plan.reject)}
    able = (
        view
        for view in islice(queue.table, MOST_SCANNED)
        if view.request_id not in passed and _fits(scheduler, queue, view.request_id, snapshot)
    )
    places = AdapterPlaces(snapshot)
    places.of(queue.view(request_id) for request_id in planned)
    return [view.request_id for view in places.of(able)]


def _fits(
    scheduler: AsyncScheduler, queue: GatedQueue, request_id: str, snapshot: Snapshot
) -> bool:
    """vLLM starts a request when its whole prompt finds room, and gives up at the first that does
    not. (Blocks shared with running ones need no room: where that decides, it says no too often.)
    """
    tokens, need = queue.get(request_id).num_tokens, snapshot.limits.kv_need
    return fits(scheduler, tokens, snapshot.kv_free_tokens, need)
