"""Do images stand in the way of this plan? vLLM stops a prompt in front of one it cannot encode.

A plan counts tokens; what the encoder can take beside them is vLLM's to say (view/encoder.py). So a
checked plan is walked through in vLLM's order before it is carried out: a request that would get
nothing leaves its place to those behind it, and nothing waits for ever. Engines that take text
alone are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.gated_queue import MOST_SCANNED, GatedQueue
from scorpio.engine.view.encoder import (
    EncoderRoom,
    chunk_limit,
    has_encoder,
    has_images_left,
    holds_encoded,
    to_end_of_item,
)
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.startable import can_continue


@dataclass(slots=True)
class _Walk:
    """Through one step. left: tokens of the step not given away; spare: what the engine could give
    beyond the plan's cap. more: by how much the cap grows. blocked: these would get nothing."""

    room: EncoderRoom
    chunk: int
    left: int
    spare: int
    more: int = 0
    yields: int = 0
    blocked_rows: list[int] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    def gives(self, request: Request, computed: int, wanted: int, decodes: int) -> bool:
        """Would it get any? decodes: that could sit out for an image that is not to be split."""
        most = min(wanted, self.left, self.chunk or wanted)
        got = self.room.tokens(request, computed, most)
        self.left -= got
        return got > 0 or (not self.more and self._grows(request, computed, most, decodes))

    def _grows(self, request: Request, computed: int, most: int, decodes: int) -> bool:
        """Only the plan's cap keeps it from an item: the cap grows, and if that does not do, as
        many decodes sit out as the item takes. Once in a step."""
        whole = to_end_of_item(request, computed)
        beyond = whole - self.left
        if beyond <= 0 or beyond > self.spare + decodes or 0 < self.chunk < whole:
            return False
        if not self.room.tokens(request, computed, whole):
            return False
        self.more = min(beyond, self.spare)
        self.yields = beyond - self.more
        self.left = 0
        return True


def fitted(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: list[str] | None,
    plan: StepPlan,
    snapshot: Snapshot,
    tracked: Mapping[str, Tracked],
) -> tuple[StepPlan, list[str] | None]:
    """The plan and those that start under it, without what images make impossible.

    Those that would get nothing are kept from the plan and beside the queue's table until the
    encoder has room for them. The cap on tokens grows to the length of an item that may not be
    split. Where the cache is full of what unfinished prefills keep in it, those go first.
    """
    if not has_encoder(scheduler):
        return plan, starting
    cap = snapshot.limits.token_budget
    left = cap if plan.token_budget is None else min(plan.token_budget, cap)
    walk = _Walk(EncoderRoom(scheduler), chunk_limit(scheduler), left, cap - left)
    decodes = _run(walk, scheduler, plan, snapshot)
    ids: Iterable[str] = queue.startable() if starting is None else starting
    _start(walk, (queue.get(i) for i in islice(ids, MOST_SCANNED)), tracked, decodes)
    plan = _grown(walk, plan, snapshot, left)
    if walk.blocked_rows or queue.no_room:
        plan = _holders_first(scheduler, walk, queue, plan, snapshot)
    if not walk.blocked:
        return plan, starting
    passed = set(walk.blocked)
    rest = [i for i in (queue.startable() if starting is None else starting) if i not in passed]
    queue.keep_back(walk.blocked)
    return plan, rest


def let_in(scheduler: AsyncScheduler, queue: GatedQueue, tracked: Mapping[str, Tracked]) -> None:
    """Before a step: those that were kept back, and for which the encoder has room by now."""
    kept = queue.no_room
    if not kept:
        return
    room = EncoderRoom(scheduler)
    queue.let([i for i in kept if _begins(room, queue.get(i), tracked)])


def _begins(room: EncoderRoom, request: Request, tracked: Mapping[str, Tracked]) -> bool:
    computed = _computed(request, tracked)
    return room.tokens(request, computed, request.num_tokens - computed) > 0


def _computed(request: Request, tracked: Mapping[str, Tracked]) -> int:
    return request.num_computed_tokens or tracked[request.request_id].view.cached_tokens


def _run(walk: _Walk, scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> int:
    """Walk through those that run, as vLLM will find them; how many decodes are among them?"""
    sits_out = {*plan.skip_decode, *plan.defer_prefill}
    decodes = 0
    for row in _order(plan, snapshot):
        request = scheduler.running[row]
        if row in sits_out or not can_continue(
            request, scheduler.current_step, scheduler.max_model_len
        ):
            continue
        if snapshot.running.is_decode[row]:
            decodes += 1
            walk.left -= 1
        elif walk.left > 0:
            computed = request.num_computed_tokens
            wanted = request.num_tokens_with_spec - computed
            if not walk.gives(request, computed, wanted, decodes):
                walk.blocked_rows.append(row)
    return decodes


def _order(plan: StepPlan, snapshot: Snapshot) -> list[int]:
    """Rows as `apply_plan` sorts them."""
    rows = range(len(snapshot.running))
    if not (plan.prefill_order or plan.defer_prefill):
        return list(rows)
    is_decode, named = snapshot.running.is_decode, set(plan.prefill_order)
    front = [row for row in rows if is_decode[row]]
    behind = [row for row in rows if not is_decode[row] and row not in named]
    return [*front, *plan.prefill_order, *behind]


def _start(
    walk: _Walk, waiting: Iterable[Request], tracked: Mapping[str, Tracked], decodes: int
) -> None:
    for request in waiting:
        if walk.left <= 0:
            return
        computed = _computed(request, tracked)
        if not walk.gives(request, computed, request.num_tokens - computed, decodes):
            walk.blocked.append(request.request_id)


def _grown(walk: _Walk, plan: StepPlan, snapshot: Snapshot, left: int) -> StepPlan:
    if not walk.more and not walk.yields:
        return plan
    budget = None if plan.token_budget is None else left + walk.more
    if not walk.yields:
        return replace(plan, token_budget=budget)
    running = np.flatnonzero(snapshot.running.is_decode).tolist()
    able = [row for row in running if row not in plan.skip_decode]
    skip = (*plan.skip_decode, *able[-walk.yields :])
    return replace(plan, token_budget=budget, skip_decode=skip)


def _holders_first(
    scheduler: AsyncScheduler,
    walk: _Walk,
    queue: GatedQueue,
    plan: StepPlan,
    snapshot: Snapshot,
) -> StepPlan:
    """Whom the encoder's cache has no room for waits for the prefills that fill it: these must not
    wait for others in turn."""
    held = [queue.get(i) for i in queue.no_room]
    blocked = [scheduler.running[row] for row in walk.blocked_rows]
    alone = EncoderRoom(scheduler)
    full = any(not alone.tokens(r, r.num_computed_tokens, r.num_tokens) for r in blocked)
    if not (held or full):
        return plan
    rows = np.flatnonzero(~snapshot.running.is_decode).tolist()
    holders = [
        row
        for row in rows
        if holds_encoded(scheduler, request := scheduler.running[row])
        and has_images_left(request, request.num_computed_tokens)
    ]
    if not holders:
        return plan
    others = [row for row in plan.prefill_order if row not in holders]
    waits = [row for row in plan.defer_prefill if row not in holders]
    return replace(plan, prefill_order=(*holders, *others), defer_prefill=waits)
