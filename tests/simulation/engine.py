"""What happens next? EngineCore's busy loop over the real scheduler, in virtual time, with trouble.

`step()` and `step_with_batch_queue()` of vllm/v1/engine/core.py (0.32) are followed as in
scorpio/twin/loop.py; here the loop also pauses, sleeps, is stopped, compiles grammars and reads
sessions. Every event of a run is a line of its log; two runs of a seed have the same digest.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.request import RequestStatus

from scorpio.engine.virtual import build_scheduler
from scorpio.engine.virtual_requests import (
    ModelRunnerOutput,
    Request,
    Scheduler,
    SchedulerOutput,
    abort,
)
from scorpio.engine.virtual_scorpio import VirtualScorpioScheduler
from scorpio.twin.clock import VirtualClock
from scorpio.twin.ledger import End, Entry
from scorpio.twin.runner import FakeRunner
from tests.simulation.clients import Clients
from tests.simulation.load import Call
from tests.simulation.requests import CallFactory
from tests.simulation.run_dir import RunDir
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.speed import Speed
from tests.simulation.swarm import Swarm, tick
from tests.simulation.trouble import UNFELT, Kind, Trouble, pauses_of
from tests.simulation.watch import Watch

NEVER = 1 << 30  # tokens: a session's model does not stop by itself
_NAP_S, _LONGEST_NAP_S = 2.0**-10, 0.5
MAX_IDLE_S = 600.0


class StuckError(RuntimeError):
    """Requests are alive, nothing is to come, and no step schedules anything."""


class _Event(NamedTuple):
    """drawn_s: when it would be, were pauses not left out; the number decides between two."""

    at_s: float
    drawn_s: float
    number: int
    do: Callable[[], None]


@dataclass(slots=True)
class _InFlight:
    step: SchedulerOutput
    output: ModelRunnerOutput
    ready_s: float


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
        self.steps = 0
        self.injected: Counter[str] = Counter()
        self.lines: list[str] | None = [] if keep_log else None
        self._digest = hashlib.blake2b(digest_size=16)
        self._factory = CallFactory(swarm.spec)
        self._on_the_way: dict[str, Request] = {}  # from the API process to the engine
        self._runner = FakeRunner()
        self._mailbox: deque[Callable[[], None]] = deque()  # EngineCore's input queue
        self._aborts: deque[str] = deque()
        self._in_flight: deque[_InFlight] = deque()
        self._events: list[_Event] = []
        self._felt_s: list[float] = []  # times of those that an engine with nothing to do wakes for
        self._gpu_free_s, self._idle_since_s, self._nap_s = 0.0, math.inf, _NAP_S
        self._number = count()
        self._sent_s = 0.0  # time of the event that is happening
        self._speed = Speed(swarm)
        self._paused = pauses_of(trouble) if squeeze else ()
        for call in calls:
            self._at(call.arrival_s, self._arrives, call)
        for one in trouble:
            self._at(one.at_s, self._befalls, one)

    def run(self) -> None:
        """Serve all calls and drain."""
        try:
            self._loop()
        finally:
            if self._run_dir is not None:
                self._run_dir.remove()

    def _loop(self) -> None:
        while True:
            self._happen()
            self._read_mailbox()
            if self.scheduler.has_requests() or self._in_flight:
                self._engine_step()
            elif self._events:
                self.clock.advance_to(max(self.clock.now_s, self._events[0].at_s))
            else:
                break
        self.watch.drained_at(self.scheduler, self.clock.now_s)
        if self._run_dir is not None and isinstance(self.scheduler, WatchedScheduler):
            self._run_dir.check_drained(self.scheduler, self.watch.promises)

    @property
    def digest(self) -> str:
        """Of all events so far."""
        return self._digest.hexdigest()

    def log(self, line: str) -> None:
        """One more event."""
        line = f"{self.clock.now_s!r} {line}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    # -- what comes from outside -----------------------------------------------------------------

    def _at(self, when_s: float, do: Callable[..., None], *args: Any) -> None:
        when_s = tick(when_s)
        passed = (min(when_s, to_s) - from_s for from_s, to_s in self._paused if when_s > from_s)
        at_s = when_s - sum(passed)
        heapq.heappush(self._events, _Event(at_s, when_s, next(self._number), partial(do, *args)))
        if do != self._befalls or args[0].kind not in UNFELT:
            heapq.heappush(self._felt_s, at_s)

    def _happen(self) -> None:
        """All that is due by now, in the order in which it came."""
        events, now_s = self._events, self.clock.now_s
        while events and events[0].at_s <= now_s:
            event = heapq.heappop(events)
            self._sent_s = event.at_s
            self._idle_since_s = math.inf  # e.g. a grammar that took ten minutes has failed
            event.do()

    def _read_mailbox(self) -> None:
        while self._mailbox:
            self._mailbox.popleft()()
        self._drop_aborted()

    def _arrives(self, call: Call) -> None:
        """The API process has it; the engine's thread may start on its grammar at once."""
        entry = self.clients.call(call)
        if call.prompt_tokens + call.max_tokens > self.swarm.spec.effective_max_model_len:
            self.clients.close(entry, End.INVALID, self.clock.now_s)
            return
        request = self._factory.make(call, self._sent_s + self._wall_offset_s)
        self._on_the_way[call.request_id] = request
        reached_s = call.arrival_s + call.late_s
        self._at(reached_s, self._mailbox.append, lambda: self._submit(call, entry, request))
        if call.abort_s < math.inf:
            self._note("abort")
            self._at(max(call.abort_s, reached_s), self._aborts.append, call.request_id)
        if call.grammar_s is not None:
            self._note("grammar")
            self._at(reached_s + call.grammar_s, self._factory.compiled, call)
        for number in range(len(call.parts) + 1 if call.parts else 0):
            self._at(reached_s + (number + 1) * call.part_s, self._sends_part, call, entry, number)

    def _submit(self, call: Call, entry: Entry, request: Any) -> None:
        output = NEVER if call.parts else call.output_tokens
        self._runner.expect(call.request_id, call.index, call.prompt_tokens, output)
        del self._on_the_way[call.request_id]
        self.scheduler.add_request(request)
        self.clients.submitted.add(call.request_id)
        if call.parts:
            self.clients.part_read(call)
        self.watch.submitted(request, self.clock.now_s)

    def _sends_part(self, call: Call, entry: Entry, number: int) -> None:
        if entry.end in _LISTENING:
            part = self._factory.part(call, number, self.clock.now_s + self._wall_offset_s)
            self._mailbox.append(lambda: self._read_part(call, entry, number, part))

    def _read_part(self, call: Call, entry: Entry, number: int, part: Any) -> None:
        if entry.end not in _LISTENING:
            return
        known = call.request_id in self.scheduler.requests
        if number == len(call.parts):
            self.clients.last_part_sent.add(call.request_id)
        else:
            self.clients.part_read(call)
        self._note("part of a session")
        self.scheduler.add_request(part)
        if known and call.request_id not in self.scheduler.requests:  # it had its last answer
            self._close(entry, End.FINISHED)

    def _drop_aborted(self) -> None:
        """`EngineCore._process_aborts_queue`."""
        while self._aborts:
            request_id = self._aborts.popleft()
            entry = self.clients.entries[request_id]
            if entry.end is None and request_id in self.clients.submitted:
                abort(self.scheduler, request_id)
                self._close(entry, End.LEFT)
                self.watch.after_abort(self.scheduler, request_id)

    def _close(self, entry: Entry, end: End) -> None:
        self.clients.close(entry, end, self.clock.now_s)
        self.log(f"{entry.arrival.request_id} {entry.tokens} {end.value}")

    def _note(self, kind: str) -> None:
        self.injected[kind] += 1

    # -- trouble ---------------------------------------------------------------------------------

    @property
    def _wall_offset_s(self) -> float:
        return getattr(self.scheduler, "wall_offset_s", 0.0)

    def _befalls(self, trouble: Trouble) -> None:
        """At once, or when the engine's loop reads its mailbox."""
        self._note(trouble.kind.value)
        ours = isinstance(self.scheduler, WatchedScheduler)
        if trouble.kind is Kind.CLOCK:
            self._set_wall_clock(float(trouble.value))
        elif trouble.kind is Kind.POLICY_FAILS:
            if ours and not self.scheduler.window.passive:
                self.scheduler.window.fail_next += int(trouble.value)
        elif trouble.kind in (Kind.SWITCH, Kind.DISK_BREAKS, Kind.DISK_WORKS):
            self._touch_run_dir(trouble)
        else:
            self._mailbox.append(lambda: self._operate(trouble))

    def _set_wall_clock(self, offset_s: float) -> None:
        """Whoever is on the way from the API process is the exception that must be made: such a
        request carries the old time, and no engine can know."""
        if not isinstance(self.scheduler, WatchedScheduler):
            return
        for request in self._on_the_way.values():
            request.arrival_time += offset_s - self.scheduler.wall_offset_s
        self.scheduler.wall_offset_s = offset_s

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
                    self._close(self.clients.entries[request.request_id], End.LEFT)
            scheduler.set_pause_state(_PAUSES[kind])
            self.watch.paused(self.clock.now_s)
            if kind is Kind.SLEEP:
                self._reset_cache(True)

    def _reset_cache(self, running_too: bool) -> None:
        """vLLM refuses while a session that waits for input holds blocks: its caller is told."""
        try:
            self.scheduler.reset_prefix_cache(reset_running_requests=running_too)
        except RuntimeError:
            self._note("cache reset refused by vLLM")

    # -- EngineCore.run_busy_loop ----------------------------------------------------------------

    def _engine_step(self) -> None:
        executed = self._pipelined() if self.swarm.spec.pipeline_depth == 2 else self._plain()
        if executed:
            self._idle_since_s, self._nap_s = math.inf, _NAP_S
        elif self.scheduler.has_requests():
            self._nap()

    def _plain(self) -> bool:
        flight = self._schedule()
        self._receive(flight)
        return flight.step.total_num_scheduled_tokens > 0

    def _pipelined(self) -> bool:
        executed = False
        if self.scheduler.has_requests():
            flight = self._schedule()
            executed = flight.step.total_num_scheduled_tokens > 0
            self._in_flight.append(flight)
            if len(self._in_flight) < 2 and (executed or self.scheduler.has_requests()):
                return executed
        self._receive(self._in_flight.popleft())
        return executed

    def _schedule(self) -> _InFlight:
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
        return _InFlight(step, output, ready_s)

    def _receive(self, flight: _InFlight) -> None:
        clock = self.clock
        clock.advance_to(max(clock.now_s, flight.ready_s))
        self._happen()
        self._drop_aborted()
        outputs = self.scheduler.update_from_output(flight.step, flight.output)
        for entry in self.clients.receive(outputs, clock.now_s):
            end = "first token" if entry.end is None else f"{entry.end.value} {entry.reason}"
            self.log(f"{entry.arrival.request_id} {entry.tokens} {end}")
        self.watch.updated(self.scheduler, clock.now_s)

    def _nap(self) -> None:
        """A millisecond in EngineCore; here longer and longer, up to the next event."""
        now_s = self.clock.now_s
        self._idle_since_s = min(self._idle_since_s, now_s)
        if now_s - self._idle_since_s > MAX_IDLE_S and not self._events:
            raise StuckError(
                f"30: {self.clients.live} requests alive, nothing scheduled since "
                f"{self._idle_since_s:.3f} s (now {now_s:.3f} s)"
            )
        until_s = now_s + self._nap_s
        self._nap_s = min(2.0 * self._nap_s, _LONGEST_NAP_S)
        while self._felt_s and self._felt_s[0] <= now_s:
            heapq.heappop(self._felt_s)
        if self._felt_s:
            until_s = min(until_s, self._felt_s[0])
        self.clock.advance_to(until_s)


# A refused session goes on sending: vLLM's API process does not end one early.
_LISTENING = (None, End.REJECTED)
_PAUSES = {
    Kind.PAUSE_KEEP: PauseState.PAUSED_ALL,
    Kind.SLEEP: PauseState.PAUSED_ALL,
    Kind.PAUSE_WAIT: PauseState.PAUSED_NEW,
    Kind.PAUSE_ABORT: PauseState.PAUSED_NEW,
}
