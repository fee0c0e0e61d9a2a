"""Which requests get in, and which have left? vLLM's API process: input checks, queue caps, aborts.

Requests pass the door when they arrive; the engine takes them out of the mailbox when its loop
comes round (`EngineCore._process_input_queue`), and learns of aborts before it handles outputs.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import RequestFactory, Scheduler, abort
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.client_pool import ClientPool
from scorpio.twin.engine.decision_log import DecisionLog
from scorpio.twin.engine.event_log import EventLog
from scorpio.twin.engine.invariants import Checker
from scorpio.twin.engine.ledger import End, Entry, Ledger
from scorpio.twin.engine.runner import FakeRunner

NO_DEADLINE_S = 86_400.0  # priority of a request without a TTFT SLO: after all others


class FrontDoor:
    """All requests of one run, on their way to the scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        spec: EngineSpec,
        runner: FakeRunner,
        ledger: Ledger,
        log: EventLog,
        checker: Checker | None = None,
        clients: ClientPool | None = None,
        decisions: DecisionLog | None = None,
    ) -> None:
        self._scheduler, self._spec, self._runner = scheduler, spec, runner
        self._ledger, self._log, self._checker = ledger, log, checker
        self._clients, self._decisions = clients, decisions
        self._factory = RequestFactory(spec)
        self._arrivals: Sequence[Arrival] = ()
        self._next = 0
        self._mailbox: deque[Arrival] = deque()
        self._leaving: list[tuple[float, str]] = []

    def expect(self, arrivals: Sequence[Arrival]) -> None:
        """The load, ordered by time."""
        self._arrivals = arrivals

    @property
    def next_arrival_s(self) -> float | None:
        """When the next request comes; None when all have come."""
        arrival = self._coming()
        return None if arrival is None else arrival.arrival_s

    def arrive(self, now_s: float) -> None:
        """Everything sent by now is checked, in order, as of its own time."""
        while True:
            arrival = self._coming()
            if arrival is None or arrival.arrival_s > now_s:
                return
            again = self._clients is not None and self._clients.sent(arrival)
            self._next += not again
            self._check(arrival)

    def ended(self, entry: Entry) -> None:
        """The client of this request has an answer."""
        if self._decisions is not None:
            self._decisions.ended(entry)
        if self._clients is not None:
            self._clients.ended(entry)

    def _coming(self) -> Arrival | None:
        """The next request: one of the load, or one that was refused and comes back."""
        new = self._arrivals[self._next] if self._next < len(self._arrivals) else None
        if self._clients is None:
            return new
        new = None if new is None else self._clients.turn(new)
        back = self._clients.returning
        return back if back and (new is None or back.arrival_s < new.arrival_s) else new

    def empty_mailbox(self, now_s: float) -> None:
        """The engine takes what has been accepted, then drops all that have left."""
        self.arrive(now_s)
        while self._mailbox:
            self._submit(self._mailbox.popleft())
        self.process_aborts(now_s)

    def process_aborts(self, now_s: float) -> None:
        """Clients that have left by now, whose requests the engine knows."""
        while self._leaving and self._leaving[0][0] <= now_s:
            _, request_id = heapq.heappop(self._leaving)
            entry = self._ledger.entries[request_id]
            if entry.end is None:
                abort(self._scheduler, request_id)
                self._answer(entry, End.LEFT, now_s, "")
                if self._checker is not None:
                    self._checker.after_abort(self._scheduler, request_id)

    def _check(self, arrival: Arrival) -> None:
        """vLLM's length check and `AsyncLLM.check_admission`."""
        spec, ledger, at_s = self._spec, self._ledger, arrival.arrival_s
        queued_tokens, unfinished = ledger.prefill_tokens, ledger.live
        entry = ledger.open(arrival)
        if self._decisions is not None:
            self._decisions.came(arrival)
        if arrival.prompt_tokens + arrival.max_tokens > spec.effective_max_model_len:
            self._answer(entry, End.INVALID, at_s, "longer than max_model_len")
        elif spec.max_num_queued_reqs is not None and unfinished + 1 > spec.max_num_queued_reqs:
            self._answer(entry, End.TURNED_AWAY, at_s, "max_num_queued_reqs")
        elif spec.max_num_queued_tokens is not None and queued_tokens >= spec.max_num_queued_tokens:
            self._answer(entry, End.TURNED_AWAY, at_s, "max_num_queued_tokens")
        else:
            self._mailbox.append(arrival)

    def _submit(self, arrival: Arrival) -> None:
        self._runner.expect(
            arrival.request_id, arrival.index, arrival.prompt_tokens, arrival.output_tokens
        )
        deadline_s = arrival.arrival_s + min(arrival.slo.ttft_s, NO_DEADLINE_S)
        request = self._factory.make(
            arrival.request_id,
            arrival.arrival_s,
            arrival.prompt_tokens,
            arrival.max_tokens,
            arrival.xargs,
            # lower is earlier; looked at by vLLM's priority policy alone
            priority=round(deadline_s * 1e3) if self._spec.policy == "priority" else 0,
            prefix_ids=arrival.prefix_ids,
            prefix_block_tokens=arrival.prefix_block_tokens,
            content=arrival.content,
        )
        self._scheduler.add_request(request)
        self._ledger.submitted.add(arrival.request_id)
        if arrival.abort_s < math.inf:
            heapq.heappush(self._leaving, (arrival.abort_s, arrival.request_id))

    def _answer(self, entry: Entry, end: End, now_s: float, reason: str) -> None:
        self._ledger.close(entry, end, now_s, reason)
        self._log.request(now_s, entry)
        self.ended(entry)
