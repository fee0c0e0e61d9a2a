"""Which processes did we start, and are they all gone? Process trees through /proc.

An orphaned engine worker keeps a core busy and ruins every later timing, so "stopped" means that
no process of the tree is left, not that the parent was waited for. Only processes that descend
from ours, or live in the session made for them, are ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: a pid alone may be reused, pid and start time may not."""

    pid: int
    start_ticks: int


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """(state, parent pid, session id, start time) of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    rest = text[text.rindex(")") + 2 :].split()  # the command may hold spaces and brackets
    return rest[0], int(rest[1]), int(rest[3]), int(rest[19])


def tree_of(root: int) -> set[ProcessId]:
    """Live processes that descend from `root` or belong to its session (`root` included)."""
    stats = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    members = {pid for pid, s in stats.items() if s is not None and (pid == root or s[2] == root)}
    while True:
        children = {pid for pid, s in stats.items() if s is not None and s[1] in members}
        if children <= members:
            break
        members |= children
    alive = set()
    for pid in members:
        stat = stats[pid]
        if stat is not None and stat[0] not in "ZX":
            alive.add(ProcessId(pid, stat[3]))
    return alive


def is_alive(process: ProcessId) -> bool:
    """True while this very process runs (a zombie does not)."""
    stat = _stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and stat[3] == process.start_ticks


def send(processes: set[ProcessId], signal_number: signal.Signals) -> None:
    """Signal each process that is still the one we know."""
    for process in processes:
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal_number)


def wait_gone(processes: set[ProcessId], timeout_s: float) -> set[ProcessId]:
    """Wait for all to end; returns those still alive at the end."""
    end_s = time.monotonic() + timeout_s
    left = {p for p in processes if is_alive(p)}
    while left and time.monotonic() < end_s:
        time.sleep(0.05)
        left = {p for p in left if is_alive(p)}
    return left
