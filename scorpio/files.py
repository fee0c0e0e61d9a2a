"""How does a file appear? Whole, or not at all: written beside its place, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path, *, on_disk: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """Open a hidden sibling for writing; it takes the name `path` only when the block succeeds.

    on_disk: wait for the disk first (a file that need not outlive the machine does without).
    private: only our user may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            publish(file, Path(name), path, on_disk=on_disk, private=private)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def publish(
    file: BinaryIO, temporary: Path, path: Path, *, on_disk: bool = True, private: bool = False
) -> None:
    """Bring the bytes to disk, then give them their name in one step."""
    file.flush()
    if on_disk:
        os.fsync(file.fileno())
    if not private:
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp made it private; results are to be shared
    os.replace(temporary, path)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file, or leave what was there before."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
