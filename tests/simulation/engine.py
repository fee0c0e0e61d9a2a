"""What happens next? EngineCore's busy loop over the real scheduler, in virtual time, with trouble.

As scorpio/twin/engine/loop.py; here the loop also pauses, sleeps, is stopped, compiles grammars
and reads sessions. Every event of a run is a line of its log; two runs of a seed have the same
digest.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus

from scorpio.engine.virtual.build import build_scheduler
from scorpio.engine.virtual.requests import Scheduler
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.ledger import End
from scorpio.twin.engine.runner import FakeRunner
from scorpio.twin.engine.stepping import InFlight, engine_step
from tests.simulation.agenda import Agenda
from tests.simulation.clients import Clients
from tests.simulation.door import Door
from tests.simulation.load import Call
from tests.simulation.log import Log
from tests.simulation.run_dir import RunDir
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.speed import Speed
from tests.simulation.swarm import Swarm
from tests.simulation.trouble import UNFELT, Kind, Trouble, pauses_of
from tests.simulation.watch import Watch

_NAP_S, _LONGEST_NAP_S = 2.0**-10, 0.5
MAX_IDLE_S = 600.0
_PAUSES = {
    Kind.PAUSE_KEEP: PauseState.PAUSED_ALL,
    Kind.SLEEP: PauseState.PAUSED_ALL,
    Kind.PAUSE_WAIT: PauseState.PAUSED_NEW,
    Kind.PAUSE_ABORT: PauseState.PAUSED_NEW,
}


class StuckError(RuntimeError):
    """Requests are alive, nothing is to come, and no step schedules anything."""


class Simulation:
    """One seed's engine, from the first call until the last answer."""

    def __init__(
        self,
        swarm: Swarm,
        calls: Sequence[Call],
        trouble: Sequence[Trouble],
        scheduler_cls: type[Scheduler] = WatchedScheduler,
        keep_log: bool = False,
        squeeze: bool = False,
    ) -> None:
        self.swarm, self.clock = swarm, VirtualClock()
        ours = issubclass(scheduler_cls, VirtualScorpioScheduler)
        self._run_dir = RunDir() if ours and swarm.has_run_dir else None
        told = swarm.settings(self._run_dir.path if self._run_dir else None) if ours else None
        self.scheduler = build_scheduler(swarm.spec, scheduler_cls, told)
        if isinstance(self.scheduler, VirtualScorpioScheduler):
            self.scheduler.clock = self.clock
        if isinstance(self.scheduler, WatchedScheduler):
            self.scheduler.bad_keys = self.scheduler.window.bad_keys = swarm.has("bad_keys")
        self.clients = Clients()
        self.watch = Watch(swarm, self.scheduler, self.clients)
        self.log = Log(self.clock, keep_log)
        self.steps = 0
        self._runner = FakeRunner()
        self._agenda = Agenda(pauses_of(trouble) if squeeze else ())
        self._door = Door(
            self.scheduler, swarm.spec, self._runner, self.clock, self._agenda, self.log,
            self.clients, self.watch,
        )  # fmt: skip
        self.injected = self._door.injected
        self._in_flight: deque[InFlight] = deque()
        self._gpu_free_s, self._idle_since_s, self._nap_s = 0.0, math.inf, _NAP_S
        self._speed = Speed(swarm)
        for call in calls:
            self._agenda.at(call.arrival_s, self._door.arrives, call)
        for one in trouble:
            self._agenda.at(one.at_s, self._befalls, one, felt=one.kind not in UNFELT)

    def run(self) -> None:
        """Serve all calls and drain."""
        try:
            self._loop()
        finally:
            if self._run_dir is not None:
                self._run_dir.remove()

    def _loop(self) -> None:
        agenda = self._agenda
        while True:
            self._happen()
            self._door.read_mailbox()
            if self.scheduler.has_requests() or self._in_flight:
                self._engine_step()
            elif agenda.next_s < math.inf:
                self.clock.advance_to(max(self.clock.now_s, agenda.next_s))
            else:
                break
        self.watch.drained_at(self.scheduler, self.clock.now_s)
        if self._run_dir is not None and isinstance(self.scheduler, WatchedScheduler):
            self._run_dir.check_drained(self.scheduler, self.watch.promises)

    def _happen(self) -> None:
        if self._agenda.happen(self.clock.now_s):
            self._idle_since_s = math.inf  # e.g. a grammar that took ten minutes has failed

    # -- trouble ---------------------------------------------------------------------------------

    def _befalls(self, trouble: Trouble) -> None:
        """At once, or when the engine's loop reads its mailbox."""
        self.injected[trouble.kind.value] += 1
        scheduler = self.scheduler
        if trouble.kind is Kind.CLOCK:
            self._door.set_wall_clock(float(trouble.value))
        elif trouble.kind is Kind.POLICY_FAILS:
            if isinstance(scheduler, WatchedScheduler) and not scheduler.window.passive:
                scheduler.window.fail_next += int(trouble.value)
        elif trouble.kind in (Kind.SWITCH, Kind.DISK_BREAKS, Kind.DISK_WORKS):
            self._touch_run_dir(trouble)
        else:
            self._door.mailbox.append(lambda: self._operate(trouble))

    def _touch_run_dir(self, trouble: Trouble) -> None:
        """Nothing of this is an event: the engine must not do anything differently for the disk."""
        if self._run_dir is None:
            return
        if trouble.kind is Kind.SWITCH:
            self._run_dir.switch(str(trouble.value), self.steps)
        elif trouble.kind is Kind.DISK_BREAKS:
            self._run_dir.breaks()
        else:
            self._run_dir.works(self.steps)

    def _operate(self, trouble: Trouble) -> None:
        scheduler, kind = self.scheduler, trouble.kind
        self.log(kind.value)
        if kind is Kind.STOPPED:
            self.clock.advance_to(self.clock.now_s + float(trouble.value))
            self.watch.stood_still(float(trouble.value))
        elif kind in (Kind.RESET, Kind.RESET_ALL):
            self._reset_cache(kind is Kind.RESET_ALL)
        elif kind is Kind.RESUME:
            scheduler.set_pause_state(PauseState.UNPAUSED)
            self.watch.resumed(self.clock.now_s)
        elif kind in _PAUSES:
            if kind is Kind.PAUSE_ABORT:
                for request in scheduler.finish_requests(None, RequestStatus.FINISHED_ABORTED):
                    self._door.close(self.clients.entries[request.request_id], End.LEFT)
            scheduler.set_pause_state(_PAUSES[kind])
            self.watch.paused(self.clock.now_s)
            if kind is Kind.SLEEP:
                self._reset_cache(True)

    def _reset_cache(self, running_too: bool) -> None:
        """vLLM refuses while a session that waits for input holds blocks: its caller is told."""
        try:
            self.scheduler.reset_prefix_cache(reset_running_requests=running_too)
        except RuntimeError:
            self.injected["cache reset refused by vLLM"] += 1

    # -- EngineCore.run_busy_loop ----------------------------------------------------------------

    def _engine_step(self) -> None:
        has, depth = self.scheduler.has_requests, self.swarm.spec.pipeline_depth
        if engine_step(self._in_flight, depth, has, self._schedule, self._receive):
            self._idle_since_s, self._nap_s = math.inf, _NAP_S
        elif self.scheduler.has_requests():
            self._nap()

    def _schedule(self) -> InFlight:
        clock = self.clock
        self.watch.before_schedule(self.scheduler)
        step = self.scheduler.schedule()
        work, output = self._runner.execute(step)
        ready_s = max(clock.now_s, self._gpu_free_s)
        if step.total_num_scheduled_tokens:
            ready_s += self._speed.step_s(work.step_s(self.swarm.step), ready_s)
        self._gpu_free_s = ready_s
        self.steps += 1
        self.injected["preemption"] += len(step.preempted_req_ids or ())
        self.log(f"step {step.num_scheduled_tokens} {sorted(step.preempted_req_ids or ())}")
        self.watch.scheduled(self.scheduler, step, work, clock.now_s)
        return InFlight(step, output, ready_s)

    def _receive(self, flight: InFlight) -> None:
        clock = self.clock
        clock.advance_to(max(clock.now_s, flight.ready_s))
        self._happen()
        self._door.drop_aborted()
        outputs = self.scheduler.update_from_output(flight.step, flight.output)
        for entry in self.clients.receive(outputs, clock.now_s):
            end = "first token" if entry.end is None else f"{entry.end.value} {entry.reason}"
            self.log(f"{entry.arrival.request_id} {entry.tokens} {end}")
        self.watch.updated(self.scheduler, clock.now_s)

    def _nap(self) -> None:
        """A millisecond in EngineCore; here longer and longer, up to the next event."""
        now_s = self.clock.now_s
        self._idle_since_s = min(self._idle_since_s, now_s)
        if now_s - self._idle_since_s > MAX_IDLE_S and self._agenda.next_s == math.inf:
            raise StuckError(
                f"30: {self.clients.live} requests alive, nothing scheduled since "
                f"{self._idle_since_s:.3f} s (now {now_s:.3f} s)"
            )
        until_s = min(now_s + self._nap_s, self._agenda.next_felt_s(now_s))
        self._nap_s = min(2.0 * self._nap_s, _LONGEST_NAP_S)
        self.clock.advance_to(until_s)
