"""How does a model directory come into being all at once, or not at all?

It is built in a scratch directory beside the target, checked byte by byte, flushed, and renamed. A
process that dies half-way leaves only scratch, which the next builder sweeps. One builder at a time
holds the lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scorpio.models.errors import DamagedModel, ModelUnavailable
from scorpio.models.manifest import check_manifest, write_manifest

Say = Callable[[str], None]
# Fills the given empty directory and returns what it was made from. Its parent is free scratch.
Build = Callable[[Path, Say], Mapping[str, str]]


def ensure_published(target: Path, build: Build, say: Say) -> Path:
    """`target`, intact; built now when it is absent or damaged."""
    if is_intact(target):
        return target
    try:
        return _publish(target, build, say)
    except OSError as error:  # no right to write, a full disk, a file where a directory should be
        raise ModelUnavailable(
            f"{target} could not be written ({error}): make room, or set SCORPIO_CACHE "
            "to a directory of yours"
        ) from error


def _publish(target: Path, build: Build, say: Say) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _builder_lock(target, say):
        if is_intact(target):  # another process built it while we waited
            return target
        _sweep_scratch(target)
        scratch = Path(tempfile.mkdtemp(prefix=_scratch_prefix(target), dir=target.parent))
        try:
            _build_in(scratch, target, build, say)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _build_in(scratch: Path, target: Path, build: Build, say: Say) -> None:
    fresh = scratch / "model"
    fresh.mkdir()
    write_manifest(fresh, build(fresh, say))
    check_manifest(fresh, full=True)
    _flush_to_disk(fresh)
    if target.exists():
        say(f"the copy in {target} is damaged; replacing it")
        # a server may still have the old files mapped: move them away, never write into them
        target.rename(scratch / "damaged")
    fresh.rename(target)
    _fsync(target.parent)


def is_intact(target: Path) -> bool:
    """True when the directory is there and passes the cheap check."""
    if not target.is_dir():
        return False
    try:
        check_manifest(target)
    except DamagedModel:
        return False
    return True


@contextmanager
def _builder_lock(target: Path, say: Say) -> Iterator[None]:
    """Held until the process ends at the latest: the kernel drops it, so it is never stale."""
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is preparing {target.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _scratch_prefix(target: Path) -> str:
    return f".{target.name}.building-"


def _sweep_scratch(target: Path) -> None:
    for leftover in target.parent.glob(f"{_scratch_prefix(target)}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush_to_disk(directory: Path) -> None:
    for path in directory.iterdir():
        _fsync(path)
    _fsync(directory)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
