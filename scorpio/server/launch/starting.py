"""What if the server is told to stop while it is still starting? It ends at once, with its engine.

A start takes minutes: imports, the engine process, the weights, warm-up. Unwinding out of the
middle of it waits for what will never come (vLLM waits for its engine, Python for its children),
so nothing is unwound: children are killed, our own directory is removed, the process ends. Once
the HTTP server runs, vLLM puts its handlers in place of this one and the server drains
(scorpio/server/drain.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from scorpio.proctree import descendants, send, wait_gone

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PASSES = 5  # a child may be born while its siblings are being killed
_WAIT_S = 1.0


@contextmanager
def ending_at_once(leftovers: list[Path]) -> Iterator[None]:
    """Until someone else handles them, SIGTERM, SIGINT and SIGHUP end this process, every process
    it has started, and the directories listed by then; exit code 128 + signal, as a shell says it.

    Signals are the main thread's: called from another one this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def leave(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked child that has no handler of its own yet
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        kill_descendants(owner)
        for directory in leftovers:
            shutil.rmtree(directory, ignore_errors=True)
        os.write(2, f"scorpio: {signal.Signals(number).name} during the start\n".encode())
        os._exit(128 + number)

    before = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def kill_descendants(pid: int) -> None:
    """SIGKILL to every process below this one, also to those that ignore SIGTERM or are stopped.

    Python's resource tracker is left alone: it ends by itself after its users and removes the
    shared memory that they can no longer remove."""
    for _ in range(_PASSES):
        left = {child for child in descendants(pid) if not _is_resource_tracker(child.pid)}
        if not left:
            return
        send(left, signal.SIGKILL)
        wait_gone(left, _WAIT_S)


def _is_resource_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
