"""What is to happen, and when? Events in order of time; of two at the same time the first told."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from tests.simulation.swarm import tick


class _Event(NamedTuple):
    """drawn_s: when it would be, were pauses not left out; the number decides between two."""

    at_s: float
    drawn_s: float
    number: int
    do: Callable[[], None]


class Agenda:
    """left_out: (from, to) of times that take no time. `sent_s`: time of the event that happens."""

    def __init__(self, left_out: Sequence[tuple[float, float]] = ()) -> None:
        self.sent_s = 0.0
        self._left_out = left_out
        self._events: list[_Event] = []
        self._felt_s: list[float] = []
        self._number = count()

    def at(self, when_s: float, do: Callable[..., None], *args: Any, felt: bool = True) -> None:
        """felt: by the engine, which wakes for it when it has nothing to do."""
        when_s = tick(when_s)
        at_s = when_s
        for from_s, to_s in self._left_out:
            if when_s > from_s:
                at_s -= min(when_s, to_s) - from_s
        heapq.heappush(self._events, _Event(at_s, when_s, next(self._number), partial(do, *args)))
        if felt:
            heapq.heappush(self._felt_s, at_s)

    def happen(self, now_s: float) -> bool:
        """All that is due by now, in its order; was there anything?"""
        events, some = self._events, False
        while events and events[0].at_s <= now_s:
            event = heapq.heappop(events)
            self.sent_s, some = event.at_s, True
            event.do()
        return some

    @property
    def next_s(self) -> float:
        """Of the next event; infinity when there is none."""
        return self._events[0].at_s if self._events else math.inf

    def next_felt_s(self, now_s: float) -> float:
        """Of the next that the engine wakes for."""
        while self._felt_s and self._felt_s[0] <= now_s:
            heapq.heappop(self._felt_s)
        return self._felt_s[0] if self._felt_s else math.inf
