"""How can a test drive real client and server code without waiting and without clock noise?

An event loop whose time stands still while anything is ready and jumps to the next timer when
nothing is. Over AF_UNIX sockets, where a written byte is readable at once, every arrival time is
then exact: what the server calls "now" is what the client records.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_DEADLOCK_S = 30.0


class _JumpingSelector(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # no timer at all: only the outside world can go on
            events = super().select(_DEADLOCK_S)
            if not events:
                raise RuntimeError("virtual time: nothing is ready and nothing is scheduled")
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self.now_s += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`asyncio.sleep`, `asyncio.timeout` and `loop.time` in virtual seconds, from zero."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_in_virtual_time(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())
