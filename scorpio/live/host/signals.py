"""What if this command is ended from outside? SIGTERM and SIGHUP unwind the stack, as Ctrl-C does.

The server lives in a session of its own: without this it would survive the command that made it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def unwinding_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit while the block runs (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
