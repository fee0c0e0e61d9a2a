"""Which part of a cost changed? Recursive least squares over the shares of its terms.

Executed over predicted time is the mean of one multiplier per term, weighted by the term's share
of the prediction; past steps count less and less. A constant ridge pulls every multiplier to a
given value, so a term that is not seen goes back there and nothing can wind up. Bounds are kept
by coordinate descent on the normal equations, which carries on from the last answer: one sweep
per step, no inverse, nothing to become singular.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

LEAST, MOST = 1.0 / 64.0, 64.0  # times the profile; beyond, it is no step time but a broken clock
_FORGET = 0.99
_RIDGE = 0.05  # as much evidence as so many steps made of one term alone
_LARGE = 1e9


class MultiplierRls:
    """`values[i]` multiplies term i; always finite, within [LEAST, MOST]."""

    def __init__(self, terms: int) -> None:
        self._terms = range(terms)
        self.restart(1.0)

    def restart(self, value: float) -> None:
        """Forget all evidence; every multiplier is `value`."""
        self.values = [value for _ in self._terms]
        self._moment = [[0.0 for _ in self._terms] for _ in self._terms]
        self._target = [0.0 for _ in self._terms]
        self._weight = 1.0  # of the next step: it grows, which is the same as the others fading

    def predict(self, shares: Sequence[float]) -> float:
        """Executed over predicted time of a step with these shares (their sum is 1)."""
        ratio: float = sum(map(mul, shares, self.values))
        return ratio

    def update(self, shares: Sequence[float], ratio: float, pull: float) -> None:
        """Learn from one step; `pull`: where multipliers go of which nothing is known."""
        self._weight /= _FORGET
        present = [i for i in self._terms if shares[i]]
        for i in present:
            row, weighted = self._moment[i], self._weight * shares[i]
            for j in present:
                row[j] += weighted * shares[j]
            self._target[i] += weighted * ratio
        ridge, values = _RIDGE * self._weight, self.values
        for i, row in enumerate(self._moment):
            gap = self._target[i] - sum(map(mul, row, values)) + ridge * (pull - values[i])
            values[i] = min(max(values[i] + gap / (row[i] + ridge), LEAST), MOST)
        if self._weight > _LARGE:
            self._rescale()

    def _rescale(self) -> None:
        self._moment = [[value / self._weight for value in row] for row in self._moment]
        self._target = [value / self._weight for value in self._target]
        self._weight = 1.0
