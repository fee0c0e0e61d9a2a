"""Which requests decode in this step? Credit-based batching.

Source: arXiv 2505.23022, TPOT Guard, credit-based batching: each step a running decode earns
TRP(r); it joins the batch when its credit is >= 1, and pays 1. As in the public artefact a
request starts with credit 0, and the tightest ones (TRP 1) earn and pay in the same step, so
they join every step.

Credits are integers, one whole = SCALE. Adding and subtracting integers loses nothing, so after
n eligible steps a request has run floor(sum of its integer rates / SCALE) times, exactly, for
any n. Rates are rounded up, so that a request whose SLO is k times the tightest runs in every
k-th step at the latest (SCALE / 3, rounded down, would need a fourth); that moves the sum by less
than n / SCALE: 1e-6 of a run in 10^6 steps.
"""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray

SCALE = 1 << 40


class CreditBook:
    """Credits by slot. Invariant between steps: 0 <= credit < SCALE."""

    def __init__(self, slots: int) -> None:
        self._credit = np.zeros(slots, dtype=np.int64)

    @property
    def credit(self) -> IntArray:
        """Copy of the credits by slot, in units of 1/SCALE."""
        return self._credit.copy()

    def reset(self, slot: IntArray) -> None:
        """Forget what the earlier owners of these slots had saved."""
        self._credit[slot] = 0

    def step(self, slot: IntArray, rate: FloatArray) -> BoolArray:
        """One step of the eligible decodes in `slot`, earning `rate` in [0, 1] each.

        Returns:
            True where the decode joins. A rate of 1 always joins.
        """
        credit = self._credit[slot]
        credit += np.ceil(rate * SCALE).astype(np.int64)
        joins = credit >= SCALE
        credit -= joins * SCALE
        self._credit[slot] = credit
        return joins
