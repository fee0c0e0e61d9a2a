"""What is sent, and when? Clients that come back when refused, and clients that take turns."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

from scorpio.core.plan import MOST_RETRY_S
from scorpio.twin.clients import ClientSpec
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry
from workloads.retries import back_off_s


class ClientPool:
    """stride: above every index of the load; try k of request i has the index i + (k - 1) * stride,
    so that each try is a request of its own to the engine.

    A client has one request at a time: from its first try until it is answered or given up.
    """

    def __init__(self, spec: ClientSpec, stride: int) -> None:
        self._spec, self._stride = spec, stride
        self._due: list[tuple[float, int, Arrival]] = []
        self._busy = set[int]()  # requests that are not answered for good
        self._free_since_s = -math.inf  # when a client last came free

    @property
    def returning(self) -> Arrival | None:
        """The next refused request that comes back."""
        return self._due[0][2] if self._due else None

    def turn(self, arrival: Arrival) -> Arrival | None:
        """A request of the load, as it is sent: when a client is free. None: none is yet."""
        if not self._spec.clients:
            return arrival
        if len(self._busy) >= self._spec.clients:
            return None
        late_s = self._free_since_s - arrival.arrival_s
        if late_s <= 0.0:
            return arrival
        return replace(arrival, arrival_s=self._free_since_s, abort_s=arrival.abort_s + late_s)

    def sent(self, arrival: Arrival) -> bool:
        """What was to come next has come. True: it has been here before."""
        again = arrival.index >= self._stride
        if again:
            heapq.heappop(self._due)
        else:
            self._busy.add(arrival.index)
        return again

    def ended(self, entry: Entry) -> None:
        """Its client has an answer (it may be told so twice). One that was told no comes back when
        it was told to, if it comes back at all."""
        refused = entry.end in (End.REJECTED, End.TURNED_AWAY)
        if refused and (again := self._again(entry)) is not None:
            heapq.heappush(self._due, (again.arrival_s, again.index, again))
            return
        self._busy.discard(entry.arrival.index % self._stride)
        self._free_since_s = entry.end_s

    def _again(self, entry: Entry) -> Arrival | None:
        arrival, tries = entry.arrival, entry.arrival.index // self._stride + 1
        told_s = back_off_s(tries) if entry.end is End.TURNED_AWAY else entry.retry_after_s
        if tries > self._spec.retries or told_s is None:  # None: it is never to ask again
            return None
        back_s = entry.end_s + min(told_s, MOST_RETRY_S)
        if back_s >= arrival.abort_s:
            return None
        return replace(arrival, index=arrival.index + self._stride, arrival_s=back_s)
