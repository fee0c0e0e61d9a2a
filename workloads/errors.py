"""What can be wrong with a workload that a user names or brings? One line each, ready to print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TRACE_DOCS = "docs/traces.md"


class WorkloadError(ValueError):
    """Base of every error of this package: its text is one line that a user can act on."""


class UnknownName(WorkloadError):
    """A name that is not in a registry; the message lists the valid ones."""

    def __init__(self, what: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        super().__init__(f"unknown {what} '{name}'; valid: {', '.join(sorted(valid))}{hint}")
        self.what = what
        self.name = name


class NotAllAnswered(WorkloadError):
    """A run is over and its results are written, but they are not what was asked for: requests
    failed, or the client itself was at fault."""


class NoFleetFound(WorkloadError):
    """A plan is written, but no fleet that was looked at surely keeps the targets."""


class MissingTraceError(WorkloadError):
    """A catalog entry whose external file is not on this machine."""


class TraceError(WorkloadError):
    """A malformed trace: which file, which line (from 1), why, and where the formats are told."""

    def __init__(self, path: Path | str, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason} (formats: {TRACE_DOCS})")
        self.path = Path(path)
        self.line = line
        self.reason = reason
