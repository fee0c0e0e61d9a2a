"""Speculative decoding: how many tokens does a step give a request, with so many drafts?

A draft counts only when all before it were accepted. With the same chance a for each, K drafts
yield 1 + a + ... + a^K tokens on average (Leviathan et al., arXiv 2211.17192, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class DraftView:
    """What an engine that drafts brings to the coming step.

    most: drafts per request and step (vLLM's `num_speculative_tokens`).
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
        """That a step yields each row with 0, 1, ... `most` drafts, [B, most + 1]."""
        powers: FloatArray = self.chance[:, None] ** np.arange(self.most + 1)
        yielded: FloatArray = np.cumsum(powers, axis=1)
        return yielded

    @property
    def usual_tokens(self) -> float:
        """That a step yields a request not yet seen, with all drafts."""
        return float(sum(self.usual**k for k in range(self.most + 1)))
