"""Do images stand in the way of this plan? vLLM stops a prompt in front of one it cannot encode.

A plan counts tokens; what the encoder can take beside them is vLLM's to say (view/encoder.py). So a
checked plan is walked through in vLLM's order before it is carried out: a waiting request that
would get nothing leaves its place to those behind it, and after `_PATIENCE` steps none with images
starts ahead of it. While no live request has images nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request

from scorpio.core.plan import StepPlan
from scorpio.core.slo import OnMiss
from scorpio.core.snapshot import Snapshot
from scorpio.engine.gated_queue import MOST_SCANNED, GatedQueue
from scorpio.engine.view.encoder import (
    EncoderRoom,
    chunk_limit,
    has_images_left,
    holds_encoded,
    to_end_of_item,
)
from scorpio.engine.view.remote_kv import returning
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.startable import can_continue

_PATIENCE = 32  # steps in which one was kept back, before others with images wait for it
_AGAIN = 16  # steps until decodes sit out again for one that did not use it
_LOOKED_AT = 64  # of those kept back, in a step


@dataclass(slots=True)
class _Walk:
    """Through one step. left: tokens of the step not given away; spare: what the engine could give
    beyond the plan's cap. more: by how much the cap grows. able: decodes that could sit out; whom:
    for the item of this one, at this token. blocked: these would get nothing."""

    room: EncoderRoom
    chunk: int
    left: int
    spare: int
    may_yield: Callable[[Request, int], bool]
    more: int = 0
    yields: int = 0
    whom: tuple[str, int] = ("", 0)
    able: list[int] = field(default_factory=list)
    blocked_rows: list[int] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    def gives(self, request: Request, computed: int, wanted: int, fits: bool = True) -> bool:
        """Would it get any? fits: it has KV and a seat, so that others may make room for it."""
        most = min(wanted, self.left, self.chunk or wanted)
        got = self.room.tokens(request, computed, most)
        self.left -= got
        grown = self.more or self.yields or not fits
        return got > 0 or (not grown and self._grows(request, computed))

    def _grows(self, request: Request, computed: int) -> bool:
        """Only the plan's cap keeps it from an item: the cap grows, and if that does not do, as
        many decodes sit out as the item takes. Once in a step."""
        whole = to_end_of_item(request, computed)
        beyond = whole - self.left
        yields = max(beyond - self.spare, 0)
        if beyond <= 0 or yields > len(self.able) or 0 < self.chunk < whole:
            return False
        if yields and not self.may_yield(request, computed):
            return False
        if not self.room.tokens(request, computed, whole):
            return False
        self.whom = request.request_id, computed
        self.more, self.yields, self.left = beyond - yields, yields, 0
        return True


class Images:
    """What is known from one step to the next of those with images."""

    def __init__(self) -> None:
        self._live: set[str] = set()
        self._since: dict[str, int] = {}  # the step in which it was kept back first
        self._yielded = (-_AGAIN, "", 0)  # the last step in which decodes sat out; for whom

    def came(self, request: Request) -> None:
        """It, or the next input of a session."""
        if request.mm_features:
            self._live.add(request.request_id)

    def gone(self, request_id: str) -> None:
        """It has ended."""
        self._live.discard(request_id)
        self._since.pop(request_id, None)

    def fitted(
        self,
        scheduler: AsyncScheduler,
        queue: GatedQueue,
        starting: list[str] | None,
        plan: StepPlan,
        snapshot: Snapshot,
        tracked: Mapping[str, Tracked],
        may_yield: bool = True,
    ) -> tuple[StepPlan, list[str] | None]:
        """The plan and those that start under it, without what images make impossible.

        Those that would get nothing are kept from the plan and beside the queue's table until the
        encoder has room for them. The cap on tokens grows to the length of an item that may not be
        split; may_yield: decodes may sit out for it, never in two steps one after the other.
        Where the cache is full of what unfinished prefills keep in it, those go first.
        """
        if not self._live:
            return plan, starting
        step, cap = scheduler.current_step, snapshot.limits.token_budget
        left = cap if plan.token_budget is None else min(plan.token_budget, cap)

        def asks(request: Request, computed: int) -> bool:
            return may_yield and self._may_yield(step, request.request_id, computed)

        walk = _Walk(EncoderRoom(scheduler), chunk_limit(scheduler), left, cap - left, asks)
        _run(walk, scheduler, plan, snapshot)
        for request in returning(scheduler):  # with tokens of their own, before all that wait
            computed = request.num_computed_tokens
            walk.room.tokens(request, computed, min(request.num_tokens - computed, cap))
        ids: Iterable[str] = queue.startable() if starting is None else starting
        first = self._first(queue, ids, snapshot, step) if self._since else None
        _start(walk, [queue.get(i) for i in islice(ids, MOST_SCANNED)], tracked, snapshot, first)
        plan = _grown(walk, plan, left)
        if walk.yields:
            self._yielded = (step, *walk.whom)
        if walk.blocked_rows or queue.no_room:
            plan = _holders_first(scheduler, walk, queue, plan, snapshot)
        if not walk.blocked:
            return plan, starting
        passed = set(walk.blocked)
        rest = [i for i in ids if i not in passed]
        queue.keep_back(walk.blocked)
        for request_id in walk.blocked:
            self._since.setdefault(request_id, step)
        return plan, rest

    def let_in(
        self,
        scheduler: AsyncScheduler,
        queue: GatedQueue,
        tracked: Mapping[str, Tracked],
        now_s: float,
    ) -> None:
        """Before a step: those that were kept back, and for which the encoder has room by now; and
        those that may be refused by now."""
        kept = queue.no_room[:MOST_SCANNED] if self._live else []
        if not kept:
            return
        kept.sort(key=lambda i: self._since.get(i, 0))
        room = EncoderRoom(scheduler)
        let = [i for i in kept[:_LOOKED_AT] if _begins(room, queue.get(i), tracked)]
        late = [i for i in kept if _late(tracked[i], now_s)]
        queue.let(dict.fromkeys([*let, *late]))

    def _may_yield(self, step: int, request_id: str, computed: int) -> bool:
        """Not in two steps one after the other, nor soon again for one that made no use of it."""
        last, *whom = self._yielded
        return step - last >= (_AGAIN if whom == [request_id, computed] else 2)

    def _first(
        self, queue: GatedQueue, ids: Iterable[str], snapshot: Snapshot, step: int
    ) -> str | None:
        """The one that has waited longest for the encoder, where it was long, and where it waits
        for nothing else: it is to start in this step, or there is no room yet."""
        now = {*ids, *queue.no_room}
        late = (i for i, since in self._since.items() if step - since > _PATIENCE and i in now)
        found = min(late, key=lambda i: self._since[i], default=None)
        need = snapshot.limits.kv_need
        fits = found is not None and need.of(queue.get(found).num_tokens) <= snapshot.kv_free_tokens
        return found if fits else None


def _late(tracked: Tracked, now_s: float) -> bool:
    view = tracked.view
    return view.deadline_s < now_s and view.slo.on_miss is OnMiss.REJECT


def _begins(room: EncoderRoom, request: Request, tracked: Mapping[str, Tracked]) -> bool:
    computed = _computed(request, tracked)
    return room.tokens(request, computed, request.num_tokens - computed) > 0


def _computed(request: Request, tracked: Mapping[str, Tracked]) -> int:
    return request.num_computed_tokens or tracked[request.request_id].view.cached_tokens


def _run(walk: _Walk, scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> None:
    """Walk through those that run, as vLLM will find them."""
    sits_out = {*plan.skip_decode, *plan.defer_prefill}
    for row in _order(plan, snapshot):
        request = scheduler.running[row]
        if row in sits_out or not can_continue(
            request, scheduler.current_step, scheduler.max_model_len
        ):
            continue
        if snapshot.running.is_decode[row]:
            walk.left -= 1
            if request.next_decode_eligible_step <= scheduler.current_step:
                walk.able.append(row)  # it did not sit out in the step before
        elif walk.left > 0:
            computed = request.num_computed_tokens
            wanted = request.num_tokens_with_spec - computed
            if not walk.gives(request, computed, wanted):
                walk.blocked_rows.append(row)


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
    walk: _Walk,
    waiting: Iterable[Request],
    tracked: Mapping[str, Tracked],
    snapshot: Snapshot,
    first: str | None,
) -> None:
    """first: no other with images starts."""
    seats = snapshot.limits.max_num_seqs - len(snapshot.running)
    free = float(snapshot.kv_free_tokens)
    for request in waiting:
        if walk.left <= 0:
            return
        computed = _computed(request, tracked)
        other = first is not None and request.request_id != first
        if other and has_images_left(request, computed):
            walk.blocked.append(request.request_id)
            continue
        held = snapshot.limits.kv_need.of(request.num_tokens)
        fits = seats > 0 and held <= free
        if walk.gives(request, computed, request.num_tokens - computed, fits):
            seats -= 1
            free -= held
        else:
            walk.blocked.append(request.request_id)


def _grown(walk: _Walk, plan: StepPlan, left: int) -> StepPlan:
    if not walk.more and not walk.yields:
        return plan
    budget = None if plan.token_budget is None else left + walk.more
    skip = (*plan.skip_decode, *walk.able[len(walk.able) - walk.yields :])
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
