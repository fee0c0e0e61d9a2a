"""What was usual lately? p50 and p99 over the last values."""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import FloatArray

_SIZE = 1024


class Window:
    """A ring of the last _SIZE numbers."""

    def __init__(self) -> None:
        self._values = np.zeros(_SIZE)
        self._added = 0

    def add(self, value: float) -> None:
        """One more; the oldest goes."""
        self._values[self._added % _SIZE] = value
        self._added += 1

    def restart(self) -> None:
        """Forget everything."""
        self._added = 0

    @property
    def added(self) -> int:
        """Numbers added since the start, or since `restart`."""
        return self._added

    def quantiles(self, digits: int) -> dict[str, float]:
        """{"p50": ..., "p99": ...}, rounded; zeros when there is nothing yet."""
        known = self._values[: min(self._added, _SIZE)]
        if not len(known):
            return {"p50": 0.0, "p99": 0.0}
        ordered = known.copy()
        ordered.sort()
        return {"p50": round(_at(ordered, 0.5), digits), "p99": round(_at(ordered, 0.99), digits)}


def _at(ordered: FloatArray, share: float) -> float:
    """So far up. To the last bit what `np.percentile` says, which takes several times as long."""
    place = (len(ordered) - 1) * share
    row = int(place)
    low, high = float(ordered[row]), float(ordered[min(row + 1, len(ordered) - 1)])
    part = place - row
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1.0 - part)
