"""What do the server's processes hold now? Memory, descriptors, threads, through /proc."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from scorpio.proctree import tree_of

_FIELD = re.compile(r"^(VmRSS|RssAnon|Threads):\s+(\d+)", re.M)
_MIB_KIB = 1024.0
_NAMES = {"EngineCore": "engine", "resource_tracker": "resource tracker"}


@dataclass(frozen=True, slots=True)
class Held:
    """One process at one moment. anonymous_mib: of the memory, what is no file's."""

    rss_mib: float
    anonymous_mib: float
    descriptors: int
    threads: int


def held_by_tree(root: int) -> dict[str, Held]:
    """Name -> what it holds, of every process of the server."""
    found: dict[str, Held] = {}
    for process in sorted(tree_of(root), key=lambda process: (process.start_ticks, process.pid)):
        with contextlib.suppress(OSError):  # it may end while it is looked at
            name = "api" if process.pid == root else _name(process.pid)
            while name in found:
                name += "'"
            found[name] = held_by(process.pid)
    return found


def held_by(pid: int) -> Held:
    """What one process holds. Raises OSError when it is gone."""
    fields = dict(_FIELD.findall(Path(f"/proc/{pid}/status").read_text()))
    return Held(
        int(fields.get("VmRSS", 0)) / _MIB_KIB,
        int(fields.get("RssAnon", 0)) / _MIB_KIB,
        len(os.listdir(f"/proc/{pid}/fd")),
        int(fields.get("Threads", 0)),
    )


def _name(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    for mark, name in _NAMES.items():
        if mark in line:
            return name
    return line[:40].strip() or "nameless"
