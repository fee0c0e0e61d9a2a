"""How much of the KV pool does a request of so many tokens hold?

With full attention alone: a place for each token. Other layers hold less of a long request and as
much of a short one: a window looks no further back, and a Mamba state is as large for one token as
for all. vLLM keeps layers in groups, each with blocks of its own length, and all draw on one pool;
a request holds whole blocks of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray, Number


@dataclass(frozen=True, slots=True)
class KvGroup:
    """block_tokens: in one of its blocks. most_blocks: that a request holds, however long it is."""

    block_tokens: int
    most_blocks: float = math.inf


@dataclass(frozen=True, slots=True)
class KvNeed:
    """groups: () = full attention alone, of which a token takes a place. pool_tokens, pool_blocks:
    the same pool, as policies count it and as vLLM does."""

    groups: tuple[KvGroup, ...] = ()
    pool_tokens: int = 1
    pool_blocks: int = 1

    def of(self, tokens: Number) -> Number:
        """What a request of so many tokens holds of the pool, in the pool's tokens."""
        if not self.groups:
            return tokens
        blocks = sum(
            np.minimum(np.ceil(tokens / group.block_tokens), group.most_blocks)
            for group in self.groups
        )
        held: Number = blocks * self.pool_tokens / self.pool_blocks
        return held

    def grows(self, tokens: FloatArray, more: FloatArray) -> FloatArray:
        """By how much does that grow with so many more of each?"""
        if not self.groups:
            return more
        grown: FloatArray = self.of(tokens + more) - self.of(tokens)
        return grown


FULL_ATTENTION: KvNeed = KvNeed()
