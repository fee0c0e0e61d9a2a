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


_Stat = tuple[str, int, int, int]  # state, parent pid, session id, start time


def _stat(pid: int) -> _Stat | None:
    """Of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    rest = text[text.rindex(")") + 2 :].split()  # the command may hold spaces and brackets
    return rest[0], int(rest[1]), int(rest[3]), int(rest[19])


def tree_of(root: int) -> set[ProcessId]:
    """Live processes that descend from `root` or belong to its session (`root` included)."""
    stats = _all_stats()
    return _grown(stats, {pid for pid, s in stats.items() if pid == root or s[2] == root})


def descendants(root: int) -> set[ProcessId]:
    """Live processes below `root`, without itself and whatever else is in its session."""
    return {process for process in _grown(_all_stats(), {root}) if process.pid != root}


def _all_stats() -> dict[int, _Stat]:
    pids = (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())
    return {pid: stat for pid in pids if (stat := _stat(pid)) is not None}


def _grown(stats: dict[int, _Stat], members: set[int]) -> set[ProcessId]:
    """The members and all that descend from them, as far as they are alive."""
    while True:
        children = {pid for pid, stat in stats.items() if stat[1] in members}
        if children <= members:
            break
        members = members | children
    known = ((pid, stats[pid]) for pid in members if pid in stats)
    return {ProcessId(pid, stat[3]) for pid, stat in known if stat[0] not in "ZX"}


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
