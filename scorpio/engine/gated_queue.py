"""Which waiting requests may this step touch? vLLM's waiting queue with a gate in front.

vLLM pops from the head of `self.waiting` while budget lasts. All waiting requests live here in
arrival order; during one `schedule()` a gate can present only the admitted ones, in the policy's
order. The table beside it keeps the same requests in policy order for `plan()`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus

from scorpio.core.queue import WaitingTable
from scorpio.core.views import RequestView


class GatedQueue(RequestQueue):
    """`view_of` gives the immutable facts of a request, `key_of` the policy's sort key."""

    def __init__(
        self, view_of: Callable[[Request], RequestView], key_of: Callable[[RequestView], float]
    ) -> None:
        self._view_of = view_of
        self._key_of = key_of
        self._all: OrderedDict[str, Request] = OrderedDict()
        self._gate: deque[Request] | None = None
        self.table = WaitingTable()

    def open_for(self, request_ids: Iterable[str]) -> None:
        """Present only these, in this order, until `open_all`; unknown ids are left out."""
        found = (self._all.get(request_id) for request_id in request_ids)
        self._gate = deque(request for request in found if request is not None)

    def open_all(self) -> None:
        """Back to stock: everything, in arrival order."""
        self._gate = None

    def rekey(self, key_of: Callable[[RequestView], float]) -> None:
        """Another policy, another order."""
        self._key_of = key_of
        self.table = WaitingTable()
        for request in self._all.values():
            self._tabulate(request)

    def add_request(self, request: Request) -> None:
        self._all[request.request_id] = request
        self._tabulate(request)

    def prepend_request(self, request: Request) -> None:
        self._all[request.request_id] = request
        self._all.move_to_end(request.request_id, last=False)
        self._tabulate(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        # Stock FCFSRequestQueue (deque.extendleft) reverses too.
        for request in requests:
            self.prepend_request(request)

    def peek_request(self) -> Request:
        if self._gate is not None:
            return self._gate[0]
        if not self._all:
            raise IndexError("peek from an empty queue")
        return next(iter(self._all.values()))

    def pop_request(self) -> Request:
        request = self._gate.popleft() if self._gate is not None else self.peek_request()
        self._forget(request)
        return request

    def remove_request(self, request: Request) -> None:
        if request.request_id not in self._all:
            raise ValueError(f"request {request.request_id!r} is not waiting")
        self.remove_requests((request,))

    def remove_requests(self, requests: Iterable[Request]) -> None:
        gone = {request.request_id for request in requests} & self._all.keys()
        for request_id in gone:
            del self._all[request_id]
        self.table.remove_many(gone)
        if self._gate is not None and gone:
            self._gate = deque(r for r in self._gate if r.request_id not in gone)

    def __bool__(self) -> bool:
        return bool(self._all) if self._gate is None else bool(self._gate)

    def __len__(self) -> int:
        return len(self._all)  # held requests count: autoscalers read num_requests_waiting

    def __iter__(self) -> Iterator[Request]:
        return iter(self._all.values())

    def _forget(self, request: Request) -> None:
        del self._all[request.request_id]
        self.table.remove(request.request_id)

    def _tabulate(self, request: Request) -> None:
        view = self._view_of(request)
        started = request.status == RequestStatus.PREEMPTED or request.num_output_tokens > 0
        self.table.add(view, self._key_of(view), started)
