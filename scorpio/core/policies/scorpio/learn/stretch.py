"""How much longer than its forecast must a promised time be, so that it holds?

Adaptive conformal inference (Gibbs and Candes, arXiv 2106.00170), as in core/routing/quote.py: each
promise that is broken makes it longer, each that is kept a little shorter, so that as many are
broken as may be.
"""

from __future__ import annotations

import math

_FIRST, _LEAST, _MOST = 2.0, 1.25, 16.0  # newcomers and noise break what has no cushion
_GAIN, _MAY_FAIL = 0.25, 0.03


class Stretch:
    """times: the forecast."""

    def __init__(self, first: float = _FIRST) -> None:
        self.times = first

    def learn(self, kept: bool) -> None:
        """A promise has ended."""
        longer = self.times * math.exp(_GAIN * ((not kept) - _MAY_FAIL))
        self.times = min(max(longer, _LEAST), _MOST)
