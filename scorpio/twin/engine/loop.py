"""What happens next? EngineCore's busy loop over the real scheduler, in virtual time.

How scheduling and outputs take turns is stepping.py. The GPU runs steps in order, back to back.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import DraftTokenIds, Scheduler
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.client_pool import ClientPool
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.decision_log import DecisionLog
from scorpio.twin.engine.drafting import DRAFT, Accepted, DraftingRunner
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.front_door import FrontDoor
from scorpio.twin.engine.invariants import Checker
from scorpio.twin.engine.ledger import Ledger
from scorpio.twin.engine.runner import FakeRunner
from scorpio.twin.engine.stepping import InFlight, engine_step
from scorpio.twin.engine.timeline import Timeline
from scorpio.twin.gpu.noise import StepNoise
from scorpio.twin.gpu.step_models import GpuModel

IDLE_NAP_S = 1e-3  # EngineCore sleeps this long when it has requests but nothing to run
MAX_IDLE_S = 600.0  # nothing scheduled for so long: the policy has locked itself up


class TwinStuckError(RuntimeError):
    """Requests are alive, but no step has scheduled anything for MAX_IDLE_S."""


class TwinLoop:
    """One engine, one load, from the first arrival until the last answer."""

    def __init__(
        self,
        scheduler: Scheduler,
        spec: EngineSpec,
        gpu: GpuModel,
        noise: StepNoise,
        clock: VirtualClock,
        log: EventLog,
        timeline: Timeline,
        checker: Checker | None = None,
        clients: ClientPool | None = None,
        decisions: DecisionLog | None = None,
        accepts: Accepted | None = None,
    ) -> None:
        """accepts: which drafts the model would have said too, where the engine drafts."""
        self.scheduler, self.clock, self.log, self.timeline = scheduler, clock, log, timeline
        self.ledger = Ledger()
        self.steps, self.preemptions = 0, 0
        self.schedule_s: list[float] = []
        self.update_s = 0.0
        self._spec, self._gpu, self._noise, self._checker = spec, gpu, noise, checker
        self.decisions = decisions
        self._in_flight: deque[InFlight] = deque()
        self._runner = FakeRunner() if accepts is None else DraftingRunner(accepts)
        shared = (self._runner, self.ledger, log, checker, clients, decisions)
        self._door = FrontDoor(scheduler, spec, *shared)
        self._gpu_free_s = clock.now_s
        self._idle_since_s = math.inf

    def run(self, arrivals: Sequence[Arrival]) -> None:
        """Serve all arrivals (sorted by time) and drain."""
        self.expect(arrivals)
        self.advance(math.inf)
        self.drained()

    def expect(self, arrivals: Sequence[Arrival]) -> None:
        """The load, sorted by time; a list may grow while the loop runs."""
        self._door.expect(arrivals)

    def advance(self, until_s: float) -> None:
        """Every turn of the loop that begins before then."""
        door, clock = self._door, self.clock
        while clock.now_s < until_s:
            door.empty_mailbox(clock.now_s)
            if self.scheduler.has_requests() or self._in_flight:
                self._engine_step()
            elif door.next_arrival_s is not None:
                clock.advance_to(max(clock.now_s, min(door.next_arrival_s, until_s)))
            else:
                break

    def drained(self) -> None:
        """All have ended: nothing may be left."""
        if self._checker is not None:
            self._checker.drained(self.scheduler, self.ledger)

    # -- EngineCore.run_busy_loop --------------------------------------------------------------

    def _engine_step(self) -> None:
        has, depth = self.scheduler.has_requests, self._spec.pipeline_depth
        executed = engine_step(self._in_flight, depth, has, self._schedule, self._receive)
        self.timeline.sample(self.clock.now_s, self.scheduler, self.ledger)
        if executed:
            self._idle_since_s = math.inf
        elif self.scheduler.has_requests():
            self._nap()

    def _schedule(self) -> InFlight:
        clock, checker = self.clock, self._checker
        if checker is not None:
            checker.before_schedule(self.scheduler)
        started = time.perf_counter()
        step = self.scheduler.schedule()
        self.schedule_s.append(time.perf_counter() - started)
        work, output = self._runner.execute(step)
        ready_s = max(clock.now_s, self._gpu_free_s)
        if step.total_num_scheduled_tokens:
            for part in (work,) if self._gpu.mixed_steps else work.apart():
                step_s = part.step_s(self._gpu.step)
                ready_s += self._noise.apply(step_s, ready_s) + self._gpu.gap_s
        self._gpu_free_s = ready_s
        self.steps += 1
        self.log.step(clock.now_s, work, step.preempted_req_ids or ())
        for request_id in step.preempted_req_ids or ():
            self.ledger.entries[request_id].preemptions += 1
            self.preemptions += 1
        if self.decisions is not None:
            self.decisions.scheduled(step, clock.now_s)
        if checker is not None:
            checker.after_schedule(self.scheduler, step, work)
        return InFlight(step, output, ready_s)

    def _receive(self, flight: InFlight) -> None:
        clock = self.clock
        clock.advance_to(max(clock.now_s, flight.ready_s))
        # Before the outputs: the API process saw these requests first.
        self._door.arrive(clock.now_s)
        self._door.process_aborts(clock.now_s)
        started = time.perf_counter()
        outputs = self.scheduler.update_from_output(flight.step, flight.output)
        self.update_s += time.perf_counter() - started
        if self._spec.num_speculative_tokens and self._spec.pipeline_depth == 1:
            self._draft(flight)
        for entry in self.ledger.receive(outputs, clock.now_s):
            self.log.request(clock.now_s, entry)
            if entry.end is not None:
                self._door.ended(entry)
        if self.decisions is not None:
            self.decisions.outputs(outputs, clock.now_s)
        if self._checker is not None:
            self._checker.after_update(self.scheduler, self.ledger, clock.now_s)

    def _draft(self, flight: InFlight) -> None:
        """Without async scheduling drafts reach the scheduler after each step."""
        answer, drafts = flight.output, [DRAFT] * self._spec.num_speculative_tokens
        said = zip(answer.req_ids, answer.sampled_token_ids, strict=True)
        ids = [request_id for request_id, tokens in said if tokens]
        self.scheduler.update_draft_token_ids(DraftTokenIds(ids, [drafts for _ in ids]))

    def _nap(self) -> None:
        now_s = self.clock.now_s
        self._idle_since_s = min(self._idle_since_s, now_s)
        if now_s - self._idle_since_s > MAX_IDLE_S:
            raise TwinStuckError(
                f"{self.ledger.live} requests alive at {now_s:.3f} s, nothing scheduled since "
                f"{self._idle_since_s:.3f} s"
            )
        self.clock.advance_to(now_s + IDLE_NAP_S)
