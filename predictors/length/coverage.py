"""Do the trained quantiles still cover what they promise? A window of outcomes, and a verdict."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from predictors.length.quantiles import LEVELS
from scorpio.core.views import FloatArray

WINDOW: Final = 256
NEEDED: Final = 64  # outcomes before any verdict
TOLERANCE: Final = 0.10  # of coverage: smaller misses cost less than giving the model up
DEVIATIONS: Final = 4.0  # of the binomial: chance alone demotes once in 16,000 windows
_WATCHED = tuple(LEVELS.index(level) for level in (0.1, 0.5, 0.9))


class CoverageMonitor:
    """Demotes a model whose quantiles drifted; restores it after a full window of good ones."""

    def __init__(self, window: int = WINDOW) -> None:
        if window < NEEDED:
            raise ValueError(f"window must be >= {NEEDED}")
        self.demoted = False
        self.demotions = 0
        self._hits: deque[tuple[bool, ...]] = deque(maxlen=window)

    @property
    def outcomes(self) -> int:
        """Outcomes in the window."""
        return len(self._hits)

    def coverage(self) -> dict[str, float]:
        """Share of outcomes at or below each watched quantile; empty before the first."""
        if not self._hits:
            return {}
        shares = np.mean(np.array(self._hits), axis=0)
        return {f"q{LEVELS[c]:g}": float(s) for c, s in zip(_WATCHED, shares, strict=True)}

    def add(self, quantiles_tokens: FloatArray, output_tokens: int, max_tokens: int) -> None:
        """One outcome. An answer cut at max_tokens tells nothing about quantiles at the cut."""
        cut = 0 < max_tokens <= output_tokens
        if cut and quantiles_tokens[LEVELS.index(0.5)] >= max_tokens:
            return
        self._hits.append(tuple(bool(output_tokens <= quantiles_tokens[c]) for c in _WATCHED))
        if len(self._hits) < NEEDED:
            return
        worst = self._worst()
        if not self.demoted and worst > 1.0:
            self.demoted = True
            self.demotions += 1
            self._hits.clear()  # the way back starts from fresh outcomes
        elif self.demoted and len(self._hits) == self._hits.maxlen and worst <= 0.75:
            self.demoted = False

    def _worst(self) -> float:
        """Largest miss of coverage in units of what is allowed."""
        n, found = len(self._hits), list(self.coverage().values())
        return max(
            abs(share - LEVELS[c])
            / max(TOLERANCE, DEVIATIONS * math.sqrt(LEVELS[c] * (1.0 - LEVELS[c]) / n))
            for c, share in zip(_WATCHED, found, strict=True)
        )
