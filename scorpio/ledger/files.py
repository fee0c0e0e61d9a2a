"""What does a ledger hold? The lines of all engines, of both files of each, by arrival."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
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
    killed while it wrote one. salt: with which ids were hashed, b"" where it is not beside them.
    facts: what its engines were, the oldest first; () in a ledger of an older version."""

    place: str
    entries: tuple[Entry, ...]
    damaged: int = 0
    salt: bytes = b""
    facts: tuple[Facts, ...] = ()

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
    """Of a server's run_dir, or one file of it.

    Raises:
        LedgerError: no ledger there, or nothing in it that could be read.
    """
    entries, damaged, first_reason = dict[tuple[str, float], Entry](), 0, ""
    facts: list[Facts] = []
    try:
        with ExitStack() as opened:
            for file in _opened(place, opened):
                for number, line in enumerate(_lines(file), 1):
                    try:
                        if is_facts(line):
                            facts.append(facts_of(line))
                            continue
                        entry = entry_of(line)
                    except (ValueError, RecursionError) as error:
                        damaged += 1
                        first_reason = first_reason or f"{file.name}:{number}: {error}"
                        continue
                    entries[entry.id, entry.arrived_unix_s] = entry
    except OSError as error:
        raise LedgerError(f"{place}: cannot be read: {error.strerror or error}") from None
    if not entries:
        why = f"no line of it is a request's ({first_reason})" if damaged else "it is empty yet"
        raise LedgerError(f"{place}: {why}; a request is written when it ends")
    in_order = sorted(entries.values(), key=lambda entry: (entry.arrived_unix_s, entry.id))
    salt = read_salt(place if place.is_dir() else place.parent)
    told = sorted(facts, key=lambda fact: (fact.since_unix_s, fact.engine))
    return Book(str(place), tuple(in_order), damaged, salt, tuple(told))


def read_salt(folder: Path) -> bytes:
    """With which the ids, tenants and prompts there are hashed; b"" where none can be read."""
    try:
        return bytes.fromhex((folder / channel.LEDGER_SALT).read_text())
    except (OSError, ValueError):
        return b""


def _opened(place: Path, stack: ExitStack) -> Iterator[BinaryIO]:
    """The newer files first: one that is put aside meanwhile is still read, and only once."""
    seen = set()
    paths = [place] if not place.is_dir() else _of_engines(place)
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
