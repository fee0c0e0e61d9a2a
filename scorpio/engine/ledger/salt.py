"""With which secret are tenants and prompts hashed? One for each `run_dir`, in a file of its own.

So equal prompts and tenants are equal across rotations, restarts and data-parallel engines, and who
is given the ledger alone can test no guess against it. Removing the file starts anew.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from scorpio.channel import LEDGER_SALT
from scorpio.files import write_new_private

_BYTES = 32


def ledger_salt(run_dir: str) -> bytes:
    """The salt of a directory, made when there is none. Where none can be kept (the disk is gone,
    the file is damaged) one for this process."""
    path = Path(run_dir) / LEDGER_SALT
    fresh = secrets.token_hex(_BYTES)
    try:
        write_new_private(path, fresh)
        found = bytes.fromhex(path.read_text())
    except (OSError, ValueError):
        found = b""
    return found if len(found) == _BYTES else os.urandom(_BYTES)
