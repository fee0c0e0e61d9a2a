"""What is a target of the fuzzer, and how may its parser end?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Run = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    modules: tuple[str, ...]
    load: Callable[[], Run]
    words: tuple[str, ...] = ()


def must_say(error: Exception) -> None:
    """A documented error names what is wrong."""
    if not str(error):
        raise AssertionError(f"{error!r} says nothing") from error


def on_file(read: Callable[[Path], object], errors: tuple[type[Exception], ...], name: str) -> Run:
    """Run a reader of files on bytes; `errors` are its documented ones."""
    path = Path(tempfile.mkdtemp(prefix="scorpio-fuzz-")) / name

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(path)
        except errors as error:
            must_say(error)

    return run
