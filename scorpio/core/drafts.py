"""Speculative decoding: how many tokens does a step give a request, with so many drafts?

A draft counts only when all before it were accepted. With the same chance a for each, K drafts
yield 1 + a + ... + a^K tokens on average (Leviathan et al., arXiv 2211.17192, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray

# Of the tokens that drafts bring on average, so many are counted on: a promise is kept or broken by
# those that came before the answer ended.
SURE = 0.75


@dataclass(frozen=True, slots=True)
class DraftView:
    """What an engine that drafts brings to the coming step.

    most: drafts per request and step, as the engine drafts now.
    at_hand: drafts of each row of the running batch, [B]; a policy may have fewer verified.
    chance: that a draft of this row is accepted, learned, [B]. usual: of a request not yet seen.
    tokens_per_step: that a decode yielded of late, on average.
    """

    most: int
    at_hand: IntArray
    chance: FloatArray
    usual: float
    tokens_per_step: float

    def tokens(self) -> FloatArray:
        """What can be counted on in a step of each row with 0, 1, ... `most` drafts, [B, most + 1].

        Each row rises, or stays where a draft brings nothing."""
        return self._yielded(self.chance)

    @property
    def usual_tokens(self) -> float:
        """The same of a request not yet seen, with all drafts."""
        return float(self._yielded(np.array([self.usual]))[0, -1])

    def _yielded(self, chance: FloatArray) -> FloatArray:
        accepted: FloatArray = SURE * chance[:, None] ** np.arange(self.most + 1)
        accepted[:, 0] = 1.0
        yielded: FloatArray = np.cumsum(accepted, axis=1)
        return yielded
