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


class LedgerWriter:
    """Two files of `most_bytes` together: the newer one is appended to, and when it is full it
    takes the place of the older one. `written` and `dropped` count lines since start."""

    def __init__(self, run_dir: str, engine: int, most_bytes: int) -> None:
        self._path = Path(run_dir) / channel.of_engine(channel.LEDGER, engine)
        self._old = Path(run_dir) / channel.of_engine(channel.LEDGER_OLD, engine)
        self._most_in_one = most_bytes // 2
        self._queue: deque[Line] = deque()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._end_is_whole = False  # of the file, as far as is known
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

    def flush(self, most: int = MOST_QUEUED) -> int:
        """Write what is queued, the oldest first, but no more than so many; how many are left."""
        with self._turn:
            lines = []
            for _ in range(min(most, len(self._queue))):
                try:
                    lines.append(self._queue.popleft()().encode())
                except Exception:  # one that cannot be made must not cost the others
                    self.dropped += 1
            while lines:
                try:
                    self._append(lines)
                except OSError:  # full or gone: the next ones may find it well again
                    self._end_is_whole = False
                    self.dropped += len(lines)
                    lines.clear()
            return len(self._queue)

    def close(self) -> None:
        """Write what is left. Lines that come later are dropped."""
        self._closing.set()
        self.flush()

    def _append(self, lines: list[bytes]) -> None:
        """Take lines off until the file is full or none is left. Opened each time: an operator may
        have moved it away. Raises OSError."""
        with append_private(self._path) as file:
            size = os.fstat(file.fileno()).st_size
            if size and not self._end_is_whole and not _ends_whole(self._path):
                lines[0] = b"\n" + lines[0]
            while lines:
                line = lines[0]
                if len(line) > self._most_in_one:
                    self.dropped += 1
                    del lines[0]
                    continue
                if size and size + len(line) > self._most_in_one:
                    os.replace(self._path, self._old)
                    return
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._end_is_whole = True
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
