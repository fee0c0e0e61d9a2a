"""What have the API processes of one server counted together? A table that all of them map.

Each writes its own row and reads the others', without a lock: a number has one writer. What is
taken is written before the others' rows are read, so of two processes that take the last place at
the same time both may step back, and never do both go ahead. With one process there is no table.
"""

from __future__ import annotations

import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from scorpio.channel import SHARED

logger = logging.getLogger("vllm.scorpio")
NAMES: Final = 8192  # of numbers, of one process; what comes after is not shared
MARKS: Final = 4096  # the last ones of each process are known
_ROW = np.dtype(
    [
        ("used", np.int64),
        ("names", np.uint64, (NAMES,)),
        ("numbers", np.float64, (NAMES,)),
        ("marks", np.uint64, (MARKS,)),
    ]
)


class Shared:
    """rank: of this process, out of `count`. Without a directory each process is alone."""

    def __init__(self, run_dir: str | None = None, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self._places: dict[str, int] = {}
        self._marked = 0
        self._others = [row for row in range(count) if row != rank]
        self._table: Any = None
        if run_dir is None or count == 1:
            return
        try:
            self._table = _mapped(Path(run_dir) / SHARED, count)
        except OSError as error:
            logger.warning("Scorpio: limits are of each API process alone: %s", error.strerror)
            return
        for name in _ROW.names or ():
            self._table[name][rank] = 0  # of a server that was here before

    def put(self, name: str, number: float) -> None:
        """This process's own number of that name."""
        if self._table is None:
            return
        place = self._places.get(name)
        if place is None:
            place = len(self._places)
            if place >= NAMES:
                return
            self._places[name] = place
            self._table["names"][self.rank, place] = _digest(name)
            self._table["used"][self.rank] = place + 1
        self._table["numbers"][self.rank, place] = number

    def each(self, name: str) -> list[float]:
        """The numbers of the other processes that have one of this name."""
        if self._table is None:
            return []
        found = []
        for row in self._others:
            known = self._table["names"][row, : self._table["used"][row]]
            for place in np.flatnonzero(known == _digest(name))[:1]:
                found.append(float(self._table["numbers"][row, place]))
        return found

    def others(self, name: str) -> float:
        """Their sum; 0 where there are none."""
        return sum(self.each(name))

    def first(self, mark: str) -> bool:
        """Has no other process set this mark? It is set by this one now. Of two at the same time
        neither is the first."""
        if self._table is None:
            return True
        self._table["marks"][self.rank, self._marked % MARKS] = _digest(mark)
        self._marked += 1
        return not (self._table["marks"][self._others] == _digest(mark)).any()


@lru_cache(NAMES)
def _digest(name: str) -> np.uint64:
    made = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8)
    return np.uint64(int.from_bytes(made.digest(), "little") | 1)  # 0 is an empty place


def _mapped(path: Path, count: int) -> Any:
    """Raises OSError. Its blocks are there before they are written to: a disk that is full later
    ends no process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(handle, 0, _ROW.itemsize * count)
        with os.fdopen(os.dup(handle), "r+b") as file:
            return np.memmap(file, dtype=_ROW, mode="r+", shape=(count,))
    finally:
        os.close(handle)
