"""What becomes of an act that is asked of a server by a signal while it still starts? It waits.

Without a handler the signal would end the process. To block it would not do: threads that are there
already would take it.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

_ACTS = (signal.SIGHUP, signal.SIGUSR2)
_EARLY: Final[set[int]] = set()  # that have come


def hold_signals() -> None:
    """From now on."""
    for number in _ACTS:
        signal.signal(number, _came_early)


def signals_may_come() -> None:
    """Those that waited come now: their handlers are there. One that has none ends the process."""
    for number in _ACTS:
        if signal.getsignal(number) is _came_early:
            signal.signal(number, signal.SIG_DFL)
    for early in sorted(_EARLY):
        os.kill(os.getpid(), early)
    _EARLY.clear()


def _came_early(number: int, _frame: FrameType | None) -> None:
    _EARLY.add(number)
