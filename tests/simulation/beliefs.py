"""Is what the policy believes, and tells its clients, near the truth? Promises of `scorpio`."""

from __future__ import annotations

import math
from collections.abc import Callable

from scorpio.core.plan import RejectReason
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo, SloBook, SloError
from scorpio.core.snapshot import Snapshot
from scorpio.core.wire import RejectionNotice
from scorpio.engine.virtual.requests import SchedulerOutput
from scorpio.twin.engine.ledger import Entry
from tests.simulation.clients import Clients, client_request
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.swarm import Swarm

_IN_A_ROW = 3  # steps of an idle engine that only refused what it could have served
_CROWD = 12  # refused at once
_LED = 25  # steps in which a broken promise might have led
_SEEN = 100  # steps from which the speed should be known

Require = Callable[[bool, int, str], None]


class Beliefs:
    """Counts over one run of the default policy; nothing where another one was ever on."""

    def __init__(self, swarm: Swarm, clients: Clients, require: Require) -> None:
        self._swarm, self._clients, self._require = swarm, clients, require
        self._step_s = swarm.step.step_s(1, 0.0)
        self._steady = not any(map(swarm.has, ("noise", "throttled", "stalls", "pauses", "switch")))
        self._exact = self._steady and swarm.has("profile") and not swarm.has("misprofiled")
        self._idle_refusals = 0
        self._led_steps, self._led_tokens, self._all_tokens = 0, 0, 0

    def scheduled(self, scheduler: WatchedScheduler, step: SchedulerOutput, seen: Snapshot) -> None:
        """23 and 31, from what was planned and what was done."""
        if step.total_num_scheduled_tokens:
            self._idle_refusals = 0
        plan = scheduler.window.plan_made
        if plan is not None and plan.reject and not len(seen.running):
            served = bool(step.total_num_scheduled_tokens)
            able = any(self._could_serve(r.request_id) for r in plan.reject)
            self._idle_refusals += able and not served
            few = self._idle_refusals <= _IN_A_ROW
            self._require(few, 23, f"idle and refusing for {self._idle_refusals} steps")
        if self._exact and len(seen.waiting):
            self._watch_leaders(scheduler, step, seen)

    def answered(self, refused: list[tuple[Entry, RejectionNotice]]) -> None:
        """24, 25: what those refused in one step were told."""
        for entry, notice in refused:
            slo = _slo_of(entry)
            out_of_reach = self._exact and slo is not None and 3.0 * slo.ttft_s < self._step_s
            late = notice.reason is RejectReason.TTFT_INFEASIBLE
            again = late and not notice.never
            name = entry.arrival.request_id
            self._require(not (out_of_reach and again), 24, f"{name} may come back, for nothing")
        # The choices of one request are told the same.
        told = {client_request(e): n.attainable_ttft_ms for e, n in refused if n.attainable_ttft_ms}
        spread = len(told) < _CROWD or len(set(told.values())) > 1
        some_ms = next(iter(told.values()), None)
        self._require(spread, 25, f"{len(told)} refused at once, all told {some_ms} ms")

    def drained(self, scheduler: WatchedScheduler, steps: int) -> None:
        """13: a speed that is off is followed. 31: broken promises did not lead."""
        speed = getattr(scheduler.window.inner, "_speed", None)
        timed = self._steady and steps > _SEEN and self._swarm.has("profile")
        if speed is not None and timed:
            believed_s = speed.model().step_s(1, 0.0)
            off = max(believed_s / self._step_s, self._step_s / believed_s)
            self._require(off < 2.5, 13, f"a step is believed to take {off:.1f} times the truth")
        if self._led_steps >= _LED:
            share = self._led_tokens / max(self._all_tokens, 1)
            self._require(share < 0.6, 31, f"{share:.0%} of the prefill for broken promises")

    def _could_serve(self, request_id: str) -> bool:
        """Would an idle engine serve it in time, with much to spare?"""
        entry = self._clients.entries[request_id]
        slo = _slo_of(entry)
        if slo is None:
            return False
        tokens = entry.arrival.prompt_tokens
        steps = math.ceil(tokens / self._swarm.spec.max_num_batched_tokens)
        alone_s = self._swarm.step.step_s(0, 0.0, tokens, 0.0, 0.0) + steps * self._step_s
        waits_s = min(slo.ttft_s, slo.e2e_s)
        return waits_s > 2.5 * alone_s and slo.tpot_s > 2.5 * self._step_s

    def _watch_leaders(
        self, scheduler: WatchedScheduler, step: SchedulerOutput, seen: Snapshot
    ) -> None:
        """Prefill of those whose time is up, while one with room waits that can still be good."""
        if len(seen.running) >= seen.limits.max_num_seqs:
            return
        now_s, scheduled = scheduler.serving_s, step.num_scheduled_tokens
        good = [
            view for view in seen.waiting
            if view.request_id not in scheduled and self._can_be_good(view, now_s)
            and view.prompt_tokens + 16 < seen.kv_free_tokens
        ]  # fmt: skip
        if not good:
            return
        led = tokens = 0
        for request_id, count in scheduled.items():
            request = scheduler.requests[request_id]
            if request.num_output_tokens or request.num_preemptions or count < 1:
                continue
            tokens += count
            led += count * (scheduler.live_view(request_id).deadline_s < now_s)
        self._led_steps += tokens > 0
        self._led_tokens += led
        self._all_tokens += tokens

    def _can_be_good(self, view: RequestView, now_s: float) -> bool:
        alone_s = self._swarm.step.step_s(0, 0.0, view.prompt_tokens, 0.0, 0.0) + self._step_s
        left_s = view.deadline_s - now_s
        return math.isfinite(left_s) and left_s > 4.0 * alone_s and view.slo.tpot_s == math.inf


def _slo_of(entry: Entry) -> Slo | None:
    """As its client stated it; None where it names a class or nonsense."""
    try:
        return SloBook().resolve(entry.arrival.xargs)[0]
    except SloError:
        return None
