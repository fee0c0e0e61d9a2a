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
        """That a step yields each row with 0, 1, ... `most` drafts, on average, [B, most + 1]."""
        return _yielded(self.chance, self.most)

    @property
    def usual_tokens(self) -> float:
        """That a request not yet seen can count on in each step, with all drafts."""
        return float(counted_on(_yielded(np.array([self.usual]), self.most))[0, -1])


def counted_on(tokens: FloatArray) -> FloatArray:
    """Of tokens that a step yields on average, those that a promise may build on."""
    sure: FloatArray = 1.0 + SURE * (tokens - 1.0)
    return sure


def _yielded(chance: FloatArray, most: int) -> FloatArray:
    yielded: FloatArray = np.cumsum(chance[:, None] ** np.arange(most + 1), axis=1)
    return yielded
