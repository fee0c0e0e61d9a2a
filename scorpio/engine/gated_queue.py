"""Which waiting requests may this step touch? vLLM's waiting queue with a gate in front.

vLLM pops from the head of `self.waiting` while budget lasts. All waiting requests live here in
arrival order; during one `schedule()` a gate can present only the admitted ones, in the policy's
order. The table beside it keeps those that can start in policy order for `plan()`; the others (a
grammar is being compiled, an old output is in flight) wait beside it until they can.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus

from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.startable import cannot_start, must_be_seen

MOST_SCANNED = 1024  # waiting requests looked at, in the policy's order, to fill a step


class GatedQueue(RequestQueue):
    """`tracked_of` gives what is known of a request, `key_of` the policy's sort key. vLLM calls
    in the middle of a step, so no error of the policy leaves from here: it is told to `failed`, and
    such a request is sorted by its arrival. by_priority: without a gate the order is that of vLLM's
    priority scheduling, not of arrival. new_table: makes the table, and another one for another
    order."""

    def __init__(
        self,
        tracked_of: Callable[[Request], Tracked],
        key_of: Callable[[RequestView], float],
        failed: Callable[[Exception], None],
        by_priority: bool = False,
        new_table: Callable[[], WaitingTable] = WaitingTable,
    ) -> None:
        self._tracked_of = tracked_of
        self._key_of = key_of
        self._failed = failed
        self._new_table = new_table
        self._all: OrderedDict[str, Request] = OrderedDict()
        self._gate: deque[Request] | None = None
        self._held: dict[str, Request] = {}
        self._no_room: dict[str, None] = {}  # of those held: the encoder has none for them
        self._asked: set[str] = set()  # of those held: a KV connector is to say what it has of them
        self._popped: set[str] = set()  # since `ask_again`
        self._again: set[str] = set()
        # All that wait, and some that do not any more: those are dropped when they come first.
        self._heap: list[Request] | None = [] if by_priority else None
        self.table = new_table()

    def look_again(self, deferred: Iterable[Request]) -> None:
        """Which can start by now, which not any more? deferred: those that vLLM has passed over."""
        for request in [*self._held.values(), *deferred]:
            held = request.request_id in self._held
            if request.request_id in self._all and held != self._cannot_start(request):
                self._place(request)

    @property
    def no_room(self) -> list[str]:
        """Those that were kept back, the first one first."""
        return list(self._no_room)

    def keep_back(self, request_ids: Iterable[str]) -> None:
        """The encoder has no room for the images of these: they cannot start until `let`."""
        for request_id in request_ids:
            self._no_room[request_id] = None
            self._place(self._all[request_id])

    def let(self, request_ids: Iterable[str]) -> None:
        """There is room for these now."""
        for request_id in request_ids:
            self._no_room.pop(request_id, None)
            self._place(self._all[request_id])

    def revise(self, request_id: str) -> None:
        """Its view has changed."""
        request = self._all.get(request_id)
        if request is not None:
            self._place(request)

    def get(self, request_id: str) -> Request:
        """A waiting request. Raises KeyError."""
        return self._all[request_id]

    def view(self, request_id: str) -> RequestView:
        """What is known of a waiting request. Raises KeyError."""
        return self._tracked_of(self._all[request_id]).view

    def startable(self) -> list[str]:
        """Requests that could start now, in stock (arrival) order."""
        return [request_id for request_id in self._all if request_id not in self._held]

    @property
    def prompt_tokens(self) -> int:
        """Of all that wait."""
        held = sum(request.num_prompt_tokens for request in self._held.values())
        return int(self.table.prompt_tokens.sum()) + held

    @property
    def num_held(self) -> int:
        """How many wait that could not start now."""
        return len(self._held)

    def ask_again(self, request_ids: Iterable[str]) -> None:
        """A KV connector could not yet say what it has of these, which were to start: vLLM asks it
        again in each step, first of all, and the policy plans without them. Only of those that
        vLLM has come to in this step. One that was asked for and that it did not come to (no room
        for its KV, say) would stop all behind it again: it is the policy's from here on."""
        left, popped = self._asked, self._popped
        self._popped = set()
        self._asked = {i for i in request_ids if i in popped and i in self._all}
        for request_id in left ^ self._asked:
            self._place(self._all[request_id])

    def open_for(self, request_ids: Iterable[str]) -> None:
        """Present only these, in this order, until `open_all`; unknown ids are left out, and
        what is named twice counts once. What vLLM must come across to end them goes first: it costs
        the others nothing."""
        failed = [
            request
            for request in self._held.values()
            if request.request_id in self._asked or must_be_seen(request)
        ]
        found = (self._all.get(i) for i in dict.fromkeys(request_ids) if i not in self._held)
        self._gate = deque(failed)
        self._gate.extend(request for request in found if request is not None)

    def open_all(self) -> None:
        """Back to stock: everything, in arrival order."""
        self._gate = None

    def rekey(self, key_of: Callable[[RequestView], float]) -> None:
        """Another policy, another order."""
        self._key_of = key_of
        self.table = self._new_table()
        for request_id, request in self._all.items():
            if request_id not in self._held:
                self._place(request)

    def add_request(self, request: Request) -> None:
        """Queued already: a session whose answer ended while it was preempted. vLLM then takes its
        old entry away (scheduler.py:2298), and with it, in its own queue, the new one."""
        if request.request_id in self._all:
            self._again.add(request.request_id)
        self._all[request.request_id] = request
        self._push(request)
        self._place(request)

    def prepend_request(self, request: Request) -> None:
        self._all[request.request_id] = request
        self._all.move_to_end(request.request_id, last=False)
        self._push(request)
        self._place(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        # Stock FCFSRequestQueue (deque.extendleft) reverses too.
        for request in requests:
            self.prepend_request(request)

    def peek_request(self) -> Request:
        if self._gate is not None:
            return self._gate[0]
        if not self._all:
            raise IndexError("peek from an empty queue")
        if self._heap is None:
            return next(iter(self._all.values()))
        while self._all.get(self._heap[0].request_id) is not self._heap[0]:
            heappop(self._heap)
        return self._heap[0]

    def pop_request(self) -> Request:
        request = self._gate.popleft() if self._gate is not None else self.peek_request()
        self._popped.add(request.request_id)
        self._forget(request)
        return request

    def remove_request(self, request: Request) -> None:
        if request.request_id not in self._all:
            raise ValueError(f"request {request.request_id!r} is not waiting")
        self.remove_requests((request,))

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = {request.request_id for request in requests} & self._all.keys()
        again = gone & self._again
        self._again -= again
        gone -= again
        for request_id in gone:
            del self._all[request_id]
            self._held.pop(request_id, None)
            self._no_room.pop(request_id, None)
            self._asked.discard(request_id)
        self.table.remove_many(gone)
        if self._gate is not None and gone:
            self._gate = deque(r for r in self._gate if r.request_id not in gone)

    def __bool__(self) -> bool:
        return bool(self._all) if self._gate is None else bool(self._gate)

    def __len__(self) -> int:
        return len(self._all)  # held requests count: autoscalers read num_requests_waiting

    def __iter__(self) -> Iterator[Request]:
        return iter(self._all.values() if self._heap is None else sorted(self._all.values()))

    def _push(self, request: Request) -> None:
        if self._heap is not None:
            heappush(self._heap, request)

    def _forget(self, request: Request) -> None:
        del self._all[request.request_id]
        self._no_room.pop(request.request_id, None)
        self._asked.discard(request.request_id)
        if self._held.pop(request.request_id, None) is None:
            self.table.remove(request.request_id)

    def _place(self, request: Request) -> None:
        """In the table, or beside it; once, however often vLLM queues it."""
        self.table.remove(request.request_id)
        if self._cannot_start(request):
            self._held[request.request_id] = request
            return
        self._held.pop(request.request_id, None)
        tracked = self._tracked_of(request)
        # A session that reads on has no outputs any more (scheduler.py:1654), but had some.
        had_tokens = request.num_output_tokens > 0 or not math.isnan(tracked.first_token_s)
        started = request.status == RequestStatus.PREEMPTED or had_tokens
        self.table.add(tracked.view, self._key(tracked.view), started)

    def _cannot_start(self, request: Request) -> bool:
        request_id = request.request_id
        return request_id in self._no_room or request_id in self._asked or cannot_start(request)

    def _key(self, view: RequestView) -> float:
        try:
            key = float(self._key_of(view))
            if not math.isnan(key):
                return key
            raise ValueError("the policy's queue key is NaN")
        except Exception as error:
            self._failed(error)
            return view.arrival_s
