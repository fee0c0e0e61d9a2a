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
from scorpio.ledger.files import read_salt

_BYTES = 32


def ledger_salt(run_dir: str) -> bytes:
    """The salt of a directory, made when there is none. Where none can be kept (the disk is gone,
    the file is damaged) one for this process."""
    try:
        write_new_private(Path(run_dir) / LEDGER_SALT, secrets.token_hex(_BYTES))
    except OSError:
        return os.urandom(_BYTES)
    found = read_salt(Path(run_dir))
    return found if len(found) == _BYTES else os.urandom(_BYTES)
