"""Which refused requests are on their way back, and when do they come? For clients that retry."""

from __future__ import annotations

import heapq
from dataclasses import replace

from scorpio.core.plan import MOST_RETRY_S
from scorpio.twin.clients import ClientSpec, back_off_s
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry


class Returning:
    """stride: above every index of the load; try k of request i has the index i + (k - 1) * stride,
    so that each try is a request of its own to the engine."""

    def __init__(self, spec: ClientSpec, stride: int) -> None:
        self._spec, self._stride = spec, stride
        self._due: list[tuple[float, int, Arrival]] = []

    @property
    def first(self) -> Arrival | None:
        """The next one to come."""
        return self._due[0][2] if self._due else None

    def pop(self) -> None:
        """The first has come."""
        heapq.heappop(self._due)

    def tries(self, arrival: Arrival) -> int:
        """Which try is this? Counted from 1."""
        return arrival.index // self._stride + 1

    def refused(self, entry: Entry) -> None:
        """Its client was told no; it comes back when it was told to, if it comes back at all."""
        arrival, tries = entry.arrival, self.tries(entry.arrival)
        wait_s = self._wait_s(entry, tries)
        if wait_s is None or tries > self._spec.retries:
            return
        back_s = entry.end_s + wait_s
        if back_s < arrival.abort_s:
            index = arrival.index + self._stride
            again = replace(arrival, index=index, arrival_s=back_s)
            heapq.heappush(self._due, (back_s, index, again))

    def _wait_s(self, entry: Entry, tries: int) -> float | None:
        """None: it was told not to ask again."""
        if entry.end is End.TURNED_AWAY:
            return back_off_s(tries)
        told_s = entry.retry_after_s
        return None if told_s is None else min(told_s, MOST_RETRY_S)
