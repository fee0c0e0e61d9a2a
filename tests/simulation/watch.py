"""Does every promise hold after this step? The invariants of docs/simulation.md, by their numbers.

Blocks and membership cost as much as a step, so they are checked in one step of `_FULL_EVERY`, and
always after an abort and in the end; all else in every step.
"""

from __future__ import annotations

import math
from typing import Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus

from scorpio.channel import FORECASTS
from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.policy import Policy
from scorpio.core.snapshot import Snapshot
from scorpio.engine.record.faults import MONITORING
from scorpio.engine.view.remote_kv import returning
from scorpio.engine.virtual.requests import Request, Scheduler, SchedulerOutput
from scorpio.twin.engine.invariants import Checker, awaits_last, check_blocks
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.engine.runner import StepWork
from tests.simulation.beliefs import Beliefs
from tests.simulation.clients import Clients
from tests.simulation.overtaking import Overtaking
from tests.simulation.picture import check_picture
from tests.simulation.plans import Plans
from tests.simulation.promises import Promises
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.swarm import BREAKER_QUIET_S, MOST_WAITING, Swarm

_FULL_EVERY = 6
_CAPS = (RejectReason.QUEUE_FULL.value, RejectReason.OVER_QUOTA.value)


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
        self._failed, self._failed_at_s = 0, -math.inf
        ours_only = swarm.policy == "scorpio" and not swarm.has("switch") and self._ours
        self._beliefs = Beliefs(swarm, clients, self.require) if ours_only else None
        self._plans, self._overtaking = Plans(swarm), Overtaking(swarm)
        if self._ours is not None:
            self._ours.watch_plans(self._planned)

    # -- one step ----------------------------------------------------------------------------------

    def _planned(self, now_s: float, seen: Snapshot, plan: StepPlan, policy: Policy) -> None:
        self._plans.look(now_s, seen, plan, policy)
        if isinstance(policy, Scorpio) and self._overtaking.applies:
            self._overtaking.planned(now_s, seen)

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
            self._check_policy(ours, failed, now_s)
            self._plans.tell(self.require)
            self._overtaking.scheduled(step, self.require)
            seen = ours.window.seen
            if seen is not None and self._steps % _FULL_EVERY == 0:
                check_picture(ours, seen)
            if seen is not None and self._beliefs is not None:
                self._beliefs.scheduled(ours, step, seen)

    def _check_policy(self, ours: WatchedScheduler, failed: int, now_s: float) -> None:
        """24: it is asked, but for a while after it failed. 34: monitoring works while the disk
        does."""
        if failed > self._failed:
            self._failed, self._failed_at_s = failed, now_s
        asked = ours.window.seen is not None or ours.window.passive
        paused = ours.pause_state is not PauseState.UNPAUSED
        recent = now_s - self._failed_at_s <= BREAKER_QUIET_S
        wrong = ours.why_off() == FORECASTS  # it turned itself off
        self.require(asked or paused or recent or wrong, 24, "the policy is not asked any more")
        errors = ours.telemetry.faults.counts[MONITORING]
        self.require(not errors or self._swarm.has("disk"), 34, f"{errors} errors of monitoring")

    def _check_idle(self, scheduler: Scheduler) -> None:
        live = [r for r in self._could_run if r.request_id in scheduler.requests]
        self.require(not live, 30, f"empty step, though {len(live)} running requests could run")
        waits = self._fits
        fits = waits is not None and waits.request_id in scheduler.requests
        self.require(not fits, 30, f"empty step, though {waits and waits.request_id} could start")

    def updated(self, scheduler: Scheduler, now_s: float) -> None:
        """Membership (1, 6) and blocks (5), in one step of some; what was answered (24, 25)."""
        if self._clients.refused_now:
            if self._beliefs is not None:
                self._beliefs.answered(self._clients.refused_now)
            self._clients.refused_now.clear()
        if self._steps % _FULL_EVERY == 0:
            self._check_membership(scheduler, self._clients)
            check_blocks(scheduler)

    # -- what happened in between ------------------------------------------------------------------

    def submitted(self, request: Request, now_s: float) -> None:
        """The engine knows it. 29: none waits beyond the caps."""
        if self._ours is not None and self._swarm.has("caps"):
            waits = len(self._ours.waiting) > MOST_WAITING and request.request_id in (
                self._ours.requests
            )
            self.require(not waits, 29, f"{request.request_id} waits beyond the cap")

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
        self._clients.check_sessions(self.require)
        if self._beliefs is not None and self._ours is not None:
            self._beliefs.drained(self._ours, self._steps)
        for entry in self._clients.entries.values():
            self._check_end(entry)

    def _check_end(self, entry: Entry) -> None:
        call: Any = entry.arrival
        unasked = entry.end is End.REJECTED and not call.asks and entry.reason not in _CAPS
        self.require(not unasked, 32, f"{call.request_id} asked for nothing: {entry.reason}")


def _could_start(scheduler: Scheduler) -> Request | None:
    """The first waiting request that vLLM would start now, if the engine did nothing else."""
    in_place = len(scheduler.running) + scheduler.num_waiting_for_streaming_input
    if in_place >= scheduler.max_num_active_reqs:
        return None
    pool = scheduler.kv_cache_manager.block_pool
    free = pool.get_num_free_blocks()
    blocks = scheduler.kv_cache_manager.coordinator.single_type_managers[0].req_to_blocks
    for request in returning(scheduler):  # vLLM comes to these first
        held_blocks = len(blocks.get(request.request_id, ()))
        if math.ceil((request.num_tokens + 1) / scheduler.block_size) - held_blocks > free:
            return None
    # An adapter keeps its place until the last token of its answers has come.
    held = {r.lora_request.lora_int_id for r in scheduler.running if r.lora_request}
    full = bool(scheduler.lora_config) and len(held) >= scheduler.lora_config.max_loras
    for request in scheduler.waiting:
        lora = request.lora_request
        if not _may_start(request) or (full and lora and lora.lora_int_id not in held):
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
