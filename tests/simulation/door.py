"""Which requests come, go on or leave? vLLM's API process, and EngineCore's two input queues."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import Request, Scheduler, abort
from scorpio.twin.engine.clock import VirtualClock
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.engine.runner import FakeRunner
from tests.simulation.agenda import Agenda
from tests.simulation.clients import Clients
from tests.simulation.load import Call
from tests.simulation.log import Log
from tests.simulation.requests import CallFactory
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.watch import Watch

NEVER = 1 << 30  # tokens: a session's model does not stop by itself
# A refused session goes on sending: vLLM's API process does not end one early.
_LISTENING = (None, End.REJECTED)


class Door:
    """`mailbox`: what the engine's loop does when it comes round. `injected`: counts, by kind."""

    def __init__(
        self,
        scheduler: Scheduler,
        spec: EngineSpec,
        runner: FakeRunner,
        clock: VirtualClock,
        agenda: Agenda,
        log: Log,
        clients: Clients,
        watch: Watch,
    ) -> None:
        self.mailbox: deque[Callable[[], None]] = deque()
        self.injected: Counter[str] = Counter()
        self._scheduler, self._spec, self._runner = scheduler, spec, runner
        self._clock, self._agenda, self._log = clock, agenda, log
        self._clients, self._watch = clients, watch
        self._factory = CallFactory(spec)
        self._on_the_way: dict[str, Request] = {}  # from the API process to the engine
        self._aborts: deque[str] = deque()

    def read_mailbox(self) -> None:
        """`EngineCore._process_input_queue`."""
        while self.mailbox:
            self.mailbox.popleft()()
        self.drop_aborted()

    def drop_aborted(self) -> None:
        """`EngineCore._process_aborts_queue`."""
        while self._aborts:
            request_id = self._aborts.popleft()
            entry = self._clients.entries[request_id]
            if entry.end is None and request_id in self._clients.submitted:
                abort(self._scheduler, request_id)
                self.close(entry, End.LEFT)
                self._watch.after_abort(self._scheduler, request_id)

    def close(self, entry: Entry, end: End) -> None:
        """Its client is told no more."""
        self._clients.close(entry, end, self._clock.now_s)
        self._log(f"{entry.arrival.request_id} {entry.tokens} {end.value}")

    def set_wall_clock(self, offset_s: float) -> None:
        """A request on the way from the API process is the exception that must be made: such a
        request carries the old time, and no engine can know."""
        if not isinstance(self._scheduler, WatchedScheduler):
            return
        for request in self._on_the_way.values():
            request.arrival_time += offset_s - self._scheduler.wall_offset_s
        self._scheduler.wall_offset_s = offset_s

    def arrives(self, call: Call) -> None:
        """The API process has it; the engine's thread may start on its grammar at once."""
        entry, at = self._clients.call(call), self._agenda.at
        if call.prompt_tokens + call.max_tokens > self._spec.effective_max_model_len:
            self._clients.close(entry, End.INVALID, self._clock.now_s)
            return
        request = self._factory.make(call, self._agenda.sent_s + self._wall_offset_s)
        self._on_the_way[call.request_id] = request
        reached_s = call.arrival_s + call.late_s
        at(reached_s, self.mailbox.append, lambda: self._submit(call, request))
        if call.abort_s < math.inf:
            self.injected["abort"] += 1
            at(max(call.abort_s, reached_s), self._aborts.append, call.request_id)
        if call.grammar_s is not None:
            self.injected["grammar"] += 1
            at(reached_s + call.grammar_s, self._factory.compiled, call)
        for number in range(len(call.parts) + 1 if call.parts else 0):
            at(reached_s + (number + 1) * call.part_s, self._sends_part, call, entry, number)

    @property
    def _wall_offset_s(self) -> float:
        return getattr(self._scheduler, "wall_offset_s", 0.0)

    def _submit(self, call: Call, request: Any) -> None:
        output = NEVER if call.parts else call.output_tokens
        self._runner.expect(call.request_id, call.index, call.prompt_tokens, output)
        del self._on_the_way[call.request_id]
        self._scheduler.add_request(request)
        self._clients.submitted.add(call.request_id)
        if call.parts:
            self._clients.part_read(call)
        self._watch.submitted(request, self._clock.now_s)

    def _sends_part(self, call: Call, entry: Entry, number: int) -> None:
        if entry.end in _LISTENING:
            part = self._factory.part(call, number, self._clock.now_s + self._wall_offset_s)
            self.mailbox.append(lambda: self._read_part(call, entry, number, part))

    def _read_part(self, call: Call, entry: Entry, number: int, part: Any) -> None:
        if entry.end not in _LISTENING:
            return
        known = call.request_id in self._scheduler.requests
        if number == len(call.parts):
            self._clients.last_part_sent.add(call.request_id)
        else:
            self._clients.part_read(call)
        self.injected["part of a session"] += 1
        self._scheduler.add_request(part)
        if known and call.request_id not in self._scheduler.requests:  # it had its last answer
            self.close(entry, End.FINISHED)
