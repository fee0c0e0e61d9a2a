"""What is one run of a tool: its command, what it said, and what the engine's ledger says of it?"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from scorpio.ledger.entry import Entry
from scorpio.ledger.files import LedgerError, read_ledger
from scorpio.twin.fidelity.logs import read_log
from tests.engine_server import EngineServer

_RUN_S = 600.0
_WRITTEN_S = 1.0  # the ledger's lines are on disk 0.2 s after a request ended


@dataclass(frozen=True, slots=True)
class Numbers:
    """Means over what was served, in ms."""

    served: int
    refused: int
    ttft_ms: float
    tpot_ms: float


@dataclass(slots=True)
class Run:
    """told: by the tool; ours: from its file, by our reader; engine: from the ledger. None where
    there is none: a tool that writes no times, or several loads in one run."""

    title: str
    command: str
    said: list[str] = field(default_factory=list)
    told: Numbers | None = None
    ours: Numbers | None = None
    engine: Numbers | None = None


class Ledger:
    """The lines that came since it was last asked."""

    def __init__(self, server: EngineServer) -> None:
        self._run_dir = server.run_dir
        self._seen: set[str] = set()
        self.since()

    def since(self) -> list[Entry]:
        """Raises nothing: a ledger without a line is one without requests."""
        time.sleep(_WRITTEN_S)
        try:
            entries = read_ledger(self._run_dir).entries
        except LedgerError:
            return []
        new = [entry for entry in entries if entry.id not in self._seen]
        self._seen |= {entry.id for entry in new}
        return new


def call(command: Sequence[str], env: Mapping[str, str], log: Path) -> str:
    """Run it; what it printed. Raises RuntimeError with the end of it when it fails."""
    with log.open("w") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.STDOUT, timeout=_RUN_S, cwd=log.parent,
            env={**os.environ, "COLUMNS": "200", **env},
        )  # fmt: skip
    text = log.read_text(errors="replace")
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{text[-3000:]}")
    return text


def ours(path: Path) -> Numbers:
    """What our reader makes of the tool's file."""
    log = read_log(path)
    ttft = [r.ttft_s for r in log.real if r.ttft_s is not None]
    tpot = [r.tpot_s for r in log.real if r.tpot_s is not None]
    return Numbers(len(log.real), log.dropped, fmean(ttft) * 1e3, fmean(tpot) * 1e3)


def engine(entries: Sequence[Entry]) -> Numbers:
    """What the engine saw of the same requests: no HTTP, no tokenising."""
    done = [entry for entry in entries if entry.outcome == "finished"]
    refused = sum(entry.outcome == "rejected" for entry in entries)
    ttft = [entry.first_token_ms for entry in done if entry.first_token_ms is not None]
    tpot = [entry.mean_gap_ms for entry in done if entry.mean_gap_ms is not None]
    if not (ttft and tpot):
        return Numbers(len(done), refused, 0.0, 0.0)
    return Numbers(len(done), refused, fmean(ttft), fmean(tpot))
