"""What was usual lately? p50 and p99 over the last values."""

from __future__ import annotations

import numpy as np

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
        p50, p99 = np.percentile(known, (50, 99))
        return {"p50": round(float(p50), digits), "p99": round(float(p99), digits)}
