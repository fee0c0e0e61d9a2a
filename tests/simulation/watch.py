"""Does every promise hold after this step? The invariants of docs/simulation.md, by their numbers.

Blocks and membership cost as much as a step, so they are checked in one step of `_FULL_EVERY`, and
always after an abort and in the end; all else in every step.
"""

from __future__ import annotations

import math
from typing import Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus

from scorpio.engine.virtual_requests import Request, Scheduler, SchedulerOutput
from scorpio.twin.invariants import Checker, awaits_last, check_blocks
from scorpio.twin.ledger import End, Entry
from scorpio.twin.runner import StepWork
from tests.simulation.clients import Clients
from tests.simulation.picture import check_picture
from tests.simulation.promises import Promises
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.swarm import Swarm

_FULL_EVERY = 6


class Watch(Checker):
    """All checks of one run."""

    def __init__(self, swarm: Swarm, scheduler: Scheduler, clients: Clients) -> None:
        super().__init__()
        self.promises = Promises()
        self.require = self.promises.require  # type: ignore[method-assign]
        self._swarm, self._clients = swarm, clients
        self._ours = scheduler if isinstance(scheduler, WatchedScheduler) else None
        self._steps = 0
        self._could_run: list[Request] = []
        self._fits: Request | None = None

    # -- one step ----------------------------------------------------------------------------------

    def before_schedule(self, scheduler: Scheduler) -> None:
        """Who could run in this step?"""
        super().before_schedule(scheduler)
        step = scheduler.current_step + 1
        self._could_run = [
            r for r in scheduler.running
            if not awaits_last(r) and r.next_decode_eligible_step <= step
            and r.num_tokens + r.num_output_placeholders > r.num_computed_tokens
        ]  # fmt: skip
        self._fits = (
            _could_start(scheduler) if scheduler.pause_state is PauseState.UNPAUSED else None
        )

    def scheduled(
        self, scheduler: Scheduler, step: SchedulerOutput, work: StepWork, now_s: float
    ) -> None:
        """30, and what the twin's checker looks at."""
        self._steps += 1
        running = scheduler.pause_state is not PauseState.PAUSED_ALL
        if running:
            self.after_schedule(scheduler, step, work)
        if running and not step.total_num_scheduled_tokens and not step.preempted_req_ids:
            self._check_idle(scheduler)
        ours = self._ours
        if ours is not None:
            failed = sum(window.failed for window in ours.windows)
            fallbacks = ours.policy_fallbacks
            self.require(
                fallbacks <= failed, 24, f"{fallbacks} fallbacks, {failed} failures injected"
            )
            if self._steps % _FULL_EVERY == 0 and ours.window.seen is not None:
                check_picture(ours, ours.window.seen)

    def _check_idle(self, scheduler: Scheduler) -> None:
        live = [r for r in self._could_run if r.request_id in scheduler.requests]
        self.require(not live, 30, f"empty step, though {len(live)} running requests could run")
        waits = self._fits
        fits = waits is not None and waits.request_id in scheduler.requests
        self.require(not fits, 30, f"empty step, though {waits and waits.request_id} could start")

    def updated(self, scheduler: Scheduler, now_s: float) -> None:
        """Membership (1, 6) and blocks (5), in one step of some."""
        if self._steps % _FULL_EVERY == 0:
            self._check_membership(scheduler, self._clients)
            check_blocks(scheduler)

    # -- what happened in between ------------------------------------------------------------------

    def submitted(self, request: Request, now_s: float) -> None:
        """The engine knows it."""

    def stood_still(self, seconds: float) -> None:
        """The process was stopped."""

    def paused(self, now_s: float) -> None:
        """From now on nothing starts."""

    def resumed(self, now_s: float) -> None:
        """And on it goes."""

    def drained_at(self, scheduler: Scheduler, now_s: float) -> None:
        """4, 5, 32: nothing is left, and who was refused had asked for something."""
        self.drained(scheduler, self._clients)
        self._clients.check_families(self.require)
        for entry in self._clients.entries.values():
            self._check_end(entry)

    def _check_end(self, entry: Entry) -> None:
        call: Any = entry.arrival
        unasked = entry.end is End.REJECTED and not call.asks
        self.require(not unasked, 32, f"{call.request_id} asked for nothing: {entry.reason}")


def _could_start(scheduler: Scheduler) -> Request | None:
    """The first waiting request that vLLM would start now, if the engine did nothing else."""
    in_place = len(scheduler.running) + scheduler.num_waiting_for_streaming_input
    if in_place >= scheduler.max_num_active_reqs:
        return None
    pool = scheduler.kv_cache_manager.block_pool
    free = pool.get_num_free_blocks()
    for request in scheduler.waiting:
        if not _may_start(request):
            continue
        tokens = request.num_tokens + 1
        if math.ceil(tokens / scheduler.block_size) > free:
            return None  # vLLM goes no further than the first that does not fit
        return request
    return None


def _may_start(request: Request) -> bool:
    """Does nothing but room keep it from starting?"""
    if request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR:
        structured: Any = request.structured_output_request
        grammar = structured.grammar
        return grammar is not None and not isinstance(grammar, Exception)
    if request.status not in (RequestStatus.WAITING, RequestStatus.PREEMPTED):
        return False
    return not request.num_stale_output_tokens or bool(request.drop_stale_output)
