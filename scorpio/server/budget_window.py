"""How many requests of each class were good lately? Two windows over counters that only grow.

Bounded: a sample every PERIOD_S for the longest window, whatever the load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PERIOD_S: Final = 10.0
WINDOWS_S: Final[Mapping[str, float]] = {"5m": 300.0, "1h": 3600.0}


class Counted(NamedTuple):
    """Requests that are good, and all that count."""

    good: int
    all: int


NONE: Final = Counted(0, 0)
Counts = Mapping[str, Counted]


@dataclass(slots=True)
class BudgetWindow:
    """Samples of the counters, oldest first."""

    _samples: deque[tuple[float, Counts]] = field(
        default_factory=lambda: deque(maxlen=int(max(WINDOWS_S.values()) / PERIOD_S) + 1)
    )

    def look(self, now_s: float, counts: Counts) -> None:
        """One sample; those that come too early are left out."""
        if not self._samples or now_s - self._samples[-1][0] >= PERIOD_S:
            self._samples.append((now_s, counts))

    def lately(self, now_s: float, counts: Counts, name: str, window_s: float) -> Counted:
        """Of one class over the last window_s, or since the first sample. counts: now."""
        since: Counts = {}
        for at_s, sample in self._samples:
            if at_s > now_s - window_s and since:
                break
            since = sample
        old, new = since.get(name, NONE), counts.get(name, NONE)
        if new.all < old.all:  # another engine has begun to count
            return new
        return Counted(new.good - old.good, new.all - old.all)


def burn(counted: Counted, target: float) -> float:
    """How fast the error budget goes: 1 = as fast as it may. 0 while nothing has come."""
    if not counted.all:
        return 0.0
    return (1.0 - counted.good / counted.all) / (1.0 - target)
