"""Which folders of replicas that have ended are kept? The newest: a fleet that scales starts many
replicas a day, and each has a ledger.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

KEPT: Final = 32
_LOCK: Final = ".replica.lock"  # held for as long as the replica lives, however it ends


def begin(folder: Path) -> int:
    """A replica's folder is its own from now on, until this descriptor is closed or the process
    ends. Folders beside it on this node that ended longest ago are removed, but for the last KEPT.
    OSError: it cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with suppress(OSError):
        _forget_ended(folder.parent)
    return held


def _forget_ended(run_dir: Path) -> None:
    ended = [lock for lock in run_dir.glob(f"*/{_LOCK}") if _is_free(lock)]
    for lock in sorted(ended, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(lock.parent, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    found = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(found)
    return True
