"""How much work comes, and for which TPOT targets? The requests of the last half minute."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray

MEMORY_S = 30.0
MOST = 4_096  # requests remembered; of a larger fleet they came in less than MEMORY_S
LEAST_S = 0.1  # a rate is not told from less


@dataclass(frozen=True, slots=True)
class Level:
    """Requests with one TPOT SLO. done_s: engine time of the cheapest n of them, n = 0 to all.
    per_s: how many come per second."""

    done_s: FloatArray
    per_s: float

    @staticmethod
    def of(work_s: Sequence[float] | FloatArray, per_s: float) -> Level:
        """work_s: engine time of each request, in any order."""
        return Level(np.concatenate([[0.0], np.cumsum(np.sort(work_s))]), per_s)

    @property
    def load(self) -> float:
        """Engine seconds per second."""
        return self.per_s * float(self.done_s[-1]) / (len(self.done_s) - 1)

    def kept(self, load: float) -> float:
        """Promises kept per second when so much of `self.load` is served, the cheapest first: that
        is how replicas shed (docs/policies/scorpio.md)."""
        count = len(self.done_s) - 1
        served = np.interp(load / self.per_s * count, self.done_s, np.arange(count + 1))
        return self.per_s * float(served) / count


class Demand:
    """State: (when, TPOT SLO, engine time) of what came."""

    def __init__(self) -> None:
        self._came: deque[tuple[float, float, float]] = deque(maxlen=MOST)

    def note(self, now_s: float, tpot_s: float, work_s: float) -> None:
        """A request came, with this TPOT SLO; engine time that it takes."""
        while self._came and self._came[0][0] < now_s - MEMORY_S:
            self._came.popleft()
        self._came.append((now_s, tpot_s, work_s))

    def came(self, now_s: float) -> tuple[FloatArray, FloatArray, float]:
        """TPOT SLO and engine time of each that came, [n] both, and in how many seconds."""
        columns = np.array(self._came, dtype=np.float64).reshape(-1, 3)
        return columns[:, 1], columns[:, 2], self._span_s(now_s)

    def levels(self, now_s: float) -> dict[float, Level]:
        """By TPOT SLO, the tightest first."""
        found: dict[float, list[float]] = defaultdict(list)
        for _, tpot_s, work_s in self._came:
            found[tpot_s].append(work_s)
        span_s = self._span_s(now_s)
        return {
            tpot_s: Level.of(found[tpot_s], len(found[tpot_s]) / span_s) for tpot_s in sorted(found)
        }

    def _span_s(self, now_s: float) -> float:
        return max(now_s - self._came[0][0], LEAST_S) if self._came else LEAST_S
