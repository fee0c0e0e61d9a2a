"""How does a file appear? Whole, or not at all: written beside its place, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a hidden sibling for writing; it takes the name `path` only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _sibling(path) as (file, temporary):
        yield file
        publish(file, temporary, path)


def publish(file: BinaryIO, temporary: str | Path, path: Path) -> None:
    """Bring the bytes to disk, then give them their name in one step."""
    file.flush()
    os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)  # mkstemp made it private; results are to be shared
    os.replace(temporary, path)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file, or leave what was there before."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_private(path: str | Path, content: str) -> None:
    """The same between processes of one machine: for our user alone, without waiting for the disk,
    in a directory that is there (one that is gone is an error, and not made anew).

    Raises OSError.
    """
    with _sibling(path) as (file, temporary):
        file.write(content.encode())
        file.flush()
        os.replace(temporary, path)


def write_new_private(path: Path, content: str) -> None:
    """The same where there is no such file yet; one that is there stays as it is, however many
    write at once. Raises OSError."""
    with _sibling(path) as (file, temporary):
        file.write(content.encode())
        file.flush()
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)


def append_private(path: Path) -> BinaryIO:
    """Open for appending, for our user alone; never through a link that lies in its place.

    Raises OSError.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)
    os.fchmod(file.fileno(), 0o600)  # of one that was there
    return file


@contextlib.contextmanager
def _sibling(path: str | Path) -> Iterator[tuple[BinaryIO, str]]:
    folder, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(dir=folder or ".", prefix=f".{name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
