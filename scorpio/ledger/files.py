"""What does a ledger hold? The lines of all engines, of both files of each, by arrival. Of a fleet
the lines of all its replicas: each has a folder in the run_dir of the fleet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from scorpio import channel
from scorpio.ledger.entry import Entry, entry_of
from scorpio.ledger.facts import Facts, facts_of, is_facts

_MOST_LINE_BYTES = 1 << 20


class LedgerError(ValueError):
    """There is no such ledger or request; one line says what there is."""


@dataclass(frozen=True, slots=True)
class Book:
    """The requests of a ledger. damaged: lines that could not be read, of an engine that was
    killed while it wrote one. salts: with which ids were hashed, of each place where they are.
    facts: what its engines were, the oldest first; () in a ledger of an older version. replicas: of
    a fleet, the name of each."""

    place: str
    entries: tuple[Entry, ...]
    damaged: int = 0
    salts: tuple[bytes, ...] = ()
    facts: tuple[Facts, ...] = ()
    replicas: tuple[str, ...] = ()
    _replica_of: Mapping[tuple[str, float], str] = field(default_factory=dict)

    def replica_of(self, entry: Entry) -> str:
        """Which one served it; "" = it is of no fleet."""
        return self._replica_of.get(_key(entry), "")

    @property
    def span(self) -> str:
        """When they came."""
        first, last = (time_text(self.entries[at].arrived_unix_s) for at in (0, -1))
        return f"{first} to {last}"


def time_text(unix_s: float) -> str:
    """For people, in UTC."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{unix_s:.0f} s after 1970"


def read_ledger(place: Path) -> Book:
    """Of a server's run_dir, or one file of it, or of a fleet's.

    Raises:
        LedgerError: no ledger there, or nothing in it that could be read.
    """
    read = _Read()
    try:
        replicas = _replicas(place)
        for name in replicas or ("",):
            with ExitStack() as opened:  # of one replica at a time: there may have been many
                for file in _opened(place / name, opened):
                    read.lines(file, name)
    except OSError as error:
        raise LedgerError(f"{place}: cannot be read: {error.strerror or error}") from None
    if not read.entries:
        why = "it is empty yet"
        if read.damaged:
            why = f"no line of it is a request's ({read.first_reason})"
        raise LedgerError(f"{place}: {why}; a request is written when it ends")
    in_order = sorted(read.entries.values(), key=lambda entry: (entry.arrived_unix_s, entry.id))
    beside = [place / name for name in replicas] or [place if place.is_dir() else place.parent]
    salts = tuple(dict.fromkeys(filter(None, map(read_salt, beside))))
    told = tuple(sorted(read.facts, key=lambda fact: (fact.since_unix_s, fact.engine)))
    return Book(str(place), tuple(in_order), read.damaged, salts, told, replicas, read.replica_of)


class _Read:
    """What was found so far."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, float], Entry] = {}
        self.replica_of: dict[tuple[str, float], str] = {}
        self.facts: list[Facts] = []
        self.damaged, self.first_reason = 0, ""

    def lines(self, file: BinaryIO, replica: str) -> None:
        """Of one file. replica: "" = of no fleet."""
        for number, line in enumerate(_lines(file), 1):
            try:
                if is_facts(line):
                    self.facts.append(facts_of(line))
                    continue
                entry = entry_of(line)
            except (ValueError, RecursionError) as error:
                self.damaged += 1
                self.first_reason = self.first_reason or f"{file.name}:{number}: {error}"
                continue
            self.entries[_key(entry)] = entry
            if replica:
                self.replica_of[_key(entry)] = replica


def read_salt(folder: Path) -> bytes:
    """With which the ids, tenants and prompts there are hashed; b"" where none can be read."""
    try:
        return bytes.fromhex((folder / channel.LEDGER_SALT).read_text())
    except (OSError, ValueError):
        return b""


def _key(entry: Entry) -> tuple[str, float]:
    return entry.id, entry.arrived_unix_s


def _replicas(place: Path) -> tuple[str, ...]:
    """The folders of a fleet's replicas, by name; () where there is a ledger of its own."""
    if not place.is_dir() or _of_engines(place):
        return ()
    folders = (path for path in place.iterdir() if path.is_dir())
    return tuple(sorted(path.name for path in folders if _of_engines(path)))


def _opened(place: Path, stack: ExitStack) -> Iterator[BinaryIO]:
    """The newer files first: one that is put aside meanwhile is still read, and only once."""
    seen = set()
    paths = _of_engines(place) if place.is_dir() else [place]
    files = [stack.enter_context(path.open("rb")) for path in paths if path.exists()]
    if not files:
        raise LedgerError(
            f"{place}: no ledger ({channel.LEDGER}): name the --run-dir of a server, whose "
            "ledger_mib is not 0, or a ledger file"
        )
    for file in files:
        stat = os.fstat(file.fileno())
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield file


def _of_engines(run_dir: Path) -> list[Path]:
    names = (channel.LEDGER, channel.LEDGER_OLD)
    patterns = [p for name in names for p in (name, channel.of_engine(name, 1).replace("1", "*"))]
    return [path for pattern in patterns for path in sorted(run_dir.glob(pattern))]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_MOST_LINE_BYTES):
        if line.strip():
            yield line
