"""Is this machine free to be measured? What others take would be put down to the engine."""

from __future__ import annotations

import time
from pathlib import Path

from scorpio.live.progress import say

BUSY = 0.15
_SAMPLE_S = 1.0


def busy_share(sample_s: float = _SAMPLE_S) -> float:
    """Share of all CPU time that was used during the next second, 0..1; 0 where unknown."""
    before = _ticks()
    time.sleep(sample_s)
    after = _ticks()
    if before is None or after is None or after[1] <= before[1]:
        return 0.0
    return (after[0] - before[0]) / (after[1] - before[1])


def warn_if_busy() -> float:
    """Say so when others are at work; returns the share."""
    share = busy_share()
    if share > BUSY:
        say(f"CAUTION: other processes use {share:.0%} of this machine; the figures will show it")
    return share


def _ticks() -> tuple[int, int] | None:
    """(used, all) CPU ticks since boot."""
    try:
        numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = numbers[3] + numbers[4]  # idle and iowait
    return sum(numbers) - idle, sum(numbers)
