"""How do lines reach the disk without the engine waiting for it? A bounded queue, and one thread.

The engine's step loop only appends to a deque. The thread looks every PERIOD_S, and takes a few
lines at a time, because while it works the step loop may have to wait for the interpreter. What
finds the queue full, or the disk, is dropped and counted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

from scorpio import channel
from scorpio.files import append_private

PERIOD_S = 0.2
MOST_QUEUED = 16_384
_AT_ONCE, _BREATH_S = 32, 0.01
Line = Callable[[], str]  # made where it is written


class _Head(bytes):
    """What the lines behind it are about."""


class LedgerWriter:
    """Two files of `most_bytes` together: the newer one is appended to, and when it is full it
    takes the place of the older one. `written` and `dropped` count lines since start, but for the
    head, which comes before the next line and first in each file."""

    def __init__(self, run_dir: str, engine: int, most_bytes: int) -> None:
        self._path = Path(run_dir) / channel.of_engine(channel.LEDGER, engine)
        self._old = Path(run_dir) / channel.of_engine(channel.LEDGER_OLD, engine)
        self._most_in_one = most_bytes // 2
        self._queue: deque[Line | _Head] = deque()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._end_is_whole = False  # of the file, as far as is known
        self._head, self._head_is_due = _Head(), False
        self.written = 0
        self.dropped = 0

    def put(self, line: Line) -> None:
        """Queue a line; never waits, and knows nothing of the disk."""
        if self._closing.is_set() or len(self._queue) >= MOST_QUEUED:
            self.dropped += 1
            return
        self._queue.append(line)
        if self._thread is None:
            # It holds no writer: one that no scheduler has any more ends its thread.
            run = (weakref.ref(self), self._closing)
            self._thread = threading.Thread(
                target=_run, args=run, name="scorpio-ledger", daemon=True
            )
            self._thread.start()

    def begin(self, head: str) -> None:
        """What the lines from here on are about; written with the next of them."""
        with contextlib.suppress(IndexError):  # of two in a row the later one counts
            if isinstance(self._queue[-1], _Head):
                self._queue.pop()
        self._queue.append(_Head(head.encode()))

    def flush(self, most: int = MOST_QUEUED) -> int:
        """Write what is queued, the oldest first, but no more than so many; how many are left."""
        with self._turn:
            lines: list[bytes] = []
            for _ in range(min(most, len(self._queue))):
                line = self._queue.popleft()
                try:
                    lines.append(line if isinstance(line, _Head) else line().encode())
                except Exception:  # one that cannot be made must not cost the others
                    self.dropped += 1
            while any(not isinstance(line, _Head) for line in lines):
                try:
                    self._append(lines)
                except OSError:  # full or gone: the next ones may find it well again
                    self._end_is_whole = False
                    self._give_up(lines)
            self._give_up(lines)  # a head without a line makes no file
            return len(self._queue)

    def close(self) -> None:
        """Write what is left. Lines that come later are dropped."""
        self._closing.set()
        self.flush()

    def _give_up(self, lines: list[bytes]) -> None:
        """All but what the lines after them are about."""
        for line in lines:
            if isinstance(line, _Head):
                self._head, self._head_is_due = line, True
            else:
                self.dropped += 1
        lines.clear()

    def _append(self, lines: list[bytes]) -> None:
        """Take lines off until the file is full or none is left. Opened each time: an operator may
        have moved it away. Raises OSError."""
        with append_private(self._path) as file:
            size = os.fstat(file.fileno()).st_size
            torn = size and not self._end_is_whole and not _ends_whole(self._path)
            while lines:
                if isinstance(lines[0], _Head):
                    self._head, self._head_is_due = lines[0], True
                    del lines[0]
                    continue
                head = self._head if self._head_is_due or not size else b""
                if len(head) + len(lines[0]) > self._most_in_one // 2:
                    head = b""  # it would leave no room for requests
                line = b"\n" * bool(torn) + head + lines[0]
                if len(line) > self._most_in_one:
                    self.dropped += 1
                    del lines[0]
                    continue
                if size and size + len(line) > self._most_in_one:
                    os.replace(self._path, self._old)
                    return
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._end_is_whole, self._head_is_due, torn = True, False, 0
                size += len(line)
                self.written += 1
                del lines[0]


def _ends_whole(path: Path) -> bool:
    """False when the writer before us was cut off within a line."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _run(writer_of: Callable[[], LedgerWriter | None], closing: threading.Event) -> None:
    while not closing.wait(PERIOD_S):
        writer = writer_of()
        if writer is None:
            return
        with contextlib.suppress(Exception):  # the thread must not end before its time
            while writer.flush(_AT_ONCE) and not closing.wait(_BREATH_S):
                pass
        del writer
