"""Which acts changed this server, when, and by which token? One line each, in the log and a file.

`run_dir/audit.jsonl`; when it is full it becomes `audit.old.jsonl`. A token is named by the
beginning of its hash.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from starlette.types import Scope

from scorpio import channel
from scorpio.files import append_private

logger = logging.getLogger("vllm.scorpio")
FILE, OLD = "audit.jsonl", "audit.old.jsonl"
MOST_BYTES: Final = 1 << 20
_MOST_CHARS = 1000  # of one field


@dataclass(frozen=True, slots=True)
class Act:
    """What was asked: from one state to another. outcome: the HTTP status, 0 for a signal."""

    act: str
    before: str
    after: str
    remote: str
    token: str = ""
    outcome: int = 0


def remote_of(scope: Scope) -> str:
    """The address that it came from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def note(run_dir: str | None, act: Act) -> None:
    """Write it down. Never raises: an act that was done is done."""
    told = {name: str(value)[:_MOST_CHARS] for name, value in asdict(act).items()}
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **told})
    logger.info("Scorpio: audit: %s", line)
    if run_dir is None:
        return
    try:
        path = Path(run_dir) / FILE
        with channel.turn(run_dir, FILE):  # of two that find it full one would lose the old one
            if path.exists() and path.stat().st_size + len(line) >= MOST_BYTES:
                os.replace(path, path.with_name(OLD))
            with append_private(path) as file:
                file.write(line.encode() + b"\n")
    except OSError as error:
        logger.warning("Scorpio: the audit file was not written: %s", error.strerror)
