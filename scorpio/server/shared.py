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
        ("server", np.uint64),  # whose row it is; written last
        ("used", np.int64),
        ("names", np.uint64, (NAMES,)),
        ("numbers", np.float64, (NAMES,)),
        ("marks", np.uint64, (MARKS,)),
    ]
)
_FULL = f"API processes have more than {NAMES} numbers together"
_STARTED = 19  # of the fields of /proc/PID/stat behind the name: when it started


class Shared:
    """rank: of this process, out of `count`. Without a directory each process is alone. server:
    rows of another one, which was here before, count for nothing. For the thread of the event loop
    alone, as what it counts is."""

    def __init__(
        self, run_dir: str | None = None, rank: int = 0, count: int = 1, server: str | None = None
    ) -> None:
        self.rank, self.count = rank, count
        self.server = this_server() if server is None else server
        self._places: dict[str, int] = {}
        self._full = False
        self._marked = 0
        self._known: dict[int, dict[int, int]] = {row: {} for row in range(count) if row != rank}
        self._table: dict[str, Any] = {}  # column by column
        if run_dir is None or count == 1:
            return
        try:
            self._table = _mapped(Path(run_dir) / SHARED, count)
        except OSError as error:
            logger.warning("Scorpio: limits are of each API process alone: %s", error.strerror)
            return
        for column in self._table.values():
            column[rank] = 0  # of a server that was here before
        self._table["server"][rank] = _digest(self.server)

    def put(self, name: str, number: float) -> None:
        """This process's own number of that name."""
        if not self._table:
            return
        place = self._places.get(name)
        if place is None and (place := self._placed(name)) is None:
            return
        self._table["numbers"][self.rank, place] = number

    def each(self, name: str) -> list[float]:
        """The numbers of the other processes that have one of this name."""
        if not self._table:
            return []
        wanted, numbers = int(_digest(name)), self._table["numbers"]
        places = ((row, self._places_of(row).get(wanted)) for row in self._known)
        return [float(numbers[row, place]) for row, place in places if place is not None]

    def others(self, name: str) -> float:
        """Their sum; 0 where there are none."""
        return sum(self.each(name))

    def first(self, mark: str) -> bool:
        """Has no other process set this mark? It is set by this one now. Of two at the same time
        neither is the first."""
        if not self._table:
            return True
        self._table["marks"][self.rank, self._marked % MARKS] = _digest(mark)
        self._marked += 1
        return not any(
            (self._table["marks"][row] == _digest(mark)).any()
            for row in self._known
            if self._is_ours(row)
        )

    def _placed(self, name: str) -> int | None:
        """A place for a new name; None: there is none left."""
        place = len(self._places)
        if place >= NAMES:
            if not self._full:
                logger.warning("Scorpio: %s: further tenants' limits are of each alone", _FULL)
            self._full = True
            return None
        self._table["names"][self.rank, place] = _digest(name)
        self._table["used"][self.rank] = place + 1  # from now on the others look at it
        self._places[name] = place
        return place

    def _places_of(self, row: int) -> dict[int, int]:
        """Of the names in another row. A name keeps its place for as long as that server lives, so
        only the new ones are read."""
        known = self._known[row]
        if not self._is_ours(row):
            return known
        used = min(int(self._table["used"][row]), NAMES)
        for place in range(len(known), used):
            known[int(self._table["names"][row, place])] = place
        return known

    def _is_ours(self, row: int) -> bool:
        return bool(self._table["server"][row] == _digest(self.server))


def this_server() -> str:
    """What all API processes of one server have in common, and no other server: their parent."""
    parent = os.getppid()
    try:
        stat = Path(f"/proc/{parent}/stat").read_text()
    except OSError:
        return str(parent)
    return f"{parent} {stat.rpartition(')')[2].split()[_STARTED]}"


@lru_cache(NAMES)
def _digest(name: str) -> np.uint64:
    made = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8)
    return np.uint64(int.from_bytes(made.digest(), "little") | 1)  # 0 is an empty place


def _mapped(path: Path, count: int) -> dict[str, Any]:
    """By column. Raises OSError. Its blocks are there before they are written to: a disk that is
    full later ends no process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(handle, 0, _ROW.itemsize * count)
        with os.fdopen(os.dup(handle), "r+b") as file:
            table = np.memmap(file, dtype=_ROW, mode="r+", shape=(count,)).view(np.ndarray)
    finally:
        os.close(handle)
    return {name: table[name] for name in _ROW.names or ()}
