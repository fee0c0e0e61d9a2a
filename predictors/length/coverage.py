"""Do the trained quantiles still cover what they promise? A window of outcomes, and a verdict."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from predictors.length.quantiles import LEVELS
from scorpio.core.arrays import FloatArray

WINDOW: Final = 256
NEEDED: Final = 64  # outcomes before any verdict
TOLERANCE: Final = 0.10  # of coverage: smaller misses cost less than giving the model up
DEVIATIONS: Final = 4.0  # of the binomial: chance alone demotes once in 16,000 windows
_WATCHED = tuple(LEVELS.index(level) for level in (0.1, 0.5, 0.9))
WATCHED: Final = tuple(f"q{LEVELS[column]:g}" for column in _WATCHED)
_ROUNDING: Final = 0.01  # tokens: log(1 + 512) and back is a hair less than 512
Count = tuple[int, int]  # (counted, covered) of one level: (0, 0), (1, 0) or (1, 1)


class CoverageMonitor:
    """Demotes a model whose quantiles drifted; restores it after a full window of good ones.

    A quantile that stands at the request's max_tokens is left out of the count, whatever came of
    it: no answer is longer, so nothing can be seen there. The others still cover their level.
    """

    def __init__(self, window: int = WINDOW) -> None:
        if window < NEEDED:
            raise ValueError(f"window must be >= {NEEDED}")
        self.demoted = False
        self.demotions = 0
        self._window = window
        self._outcomes: deque[tuple[Count, ...]] = deque()
        self._sums = [[0, 0] for _ in _WATCHED]  # of the window, in the form of Count

    @property
    def outcomes(self) -> int:
        """Outcomes in the window."""
        return len(self._outcomes)

    def coverage(self) -> dict[str, float]:
        """Share of outcomes at or below each watched quantile that any of them counted for."""
        return {
            name: covered / counted
            for name, (counted, covered) in zip(WATCHED, self._sums, strict=True)
            if counted
        }

    def add(self, quantiles_tokens: FloatArray, output_tokens: int, max_tokens: int) -> None:
        """One outcome; max_tokens 0 = no limit."""
        limit = max_tokens - _ROUNDING if max_tokens > 0 else math.inf
        told = [float(quantiles_tokens[c]) for c in _WATCHED]
        outcome = tuple(
            (0, 0) if q >= limit else (1, int(output_tokens <= q + _ROUNDING)) for q in told
        )
        if not any(counted for counted, _ in outcome):
            return
        self._outcomes.append(outcome)
        self._count(outcome, 1)
        if len(self._outcomes) > self._window:
            self._count(self._outcomes.popleft(), -1)
        if len(self._outcomes) < NEEDED:
            return
        worst = self._worst()
        if not self.demoted and worst > 1.0:
            self.demoted = True
            self.demotions += 1
            self._outcomes.clear()  # the way back starts from fresh outcomes
            self._sums = [[0, 0] for _ in _WATCHED]
        elif self.demoted and len(self._outcomes) == self._window and worst <= 0.75:
            self.demoted = False

    def _count(self, outcome: tuple[Count, ...], sign: int) -> None:
        for total, (counted, covered) in zip(self._sums, outcome, strict=True):
            total[0] += sign * counted
            total[1] += sign * covered

    def _worst(self) -> float:
        """Largest miss of coverage in units of what is allowed; levels rarely counted are not."""
        worst = 0.0
        for column, (counted, covered) in zip(_WATCHED, self._sums, strict=True):
            if counted >= NEEDED:
                level = LEVELS[column]
                chance = DEVIATIONS * math.sqrt(level * (1.0 - level) / counted)
                miss = abs(covered / counted - level) / max(TOLERANCE, chance)
                worst = max(worst, miss)
        return worst
