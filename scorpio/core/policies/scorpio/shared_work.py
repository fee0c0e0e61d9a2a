"""Which prompts begin alike, so that one computes and the others follow?

The first in order of those with one beginning pays for it; what the others still need is the rest
of their prompts. What it computes for them would not be saved by shedding it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.waiting import WaitingTable


@dataclass(frozen=True, slots=True)
class SharedWork:
    """Columns over some rows of a waiting table. tokens: still to be computed, behind `prefix` that
    is there or will be. common: of `tokens`, those that others need too. shared_id: of a beginning
    that is not in the cache yet; 0 = none."""

    tokens: FloatArray
    prefix: FloatArray
    common: FloatArray
    shared_id: FloatArray


def shared_work(
    waiting: WaitingTable, which: slice | BoolArray, computing: Collection[int]
) -> SharedWork:
    """`computing`: beginnings that running prefills compute."""
    tokens, cached = waiting.prefill_tokens[which], waiting.cached_tokens[which]
    shared, shared_id = waiting.shared_tokens[which], waiting.shared_id[which]
    rows = ((shared_id > 0.0) & (shared > cached)).nonzero()[0]
    none = np.zeros(len(tokens))
    if not len(rows):
        return SharedWork(tokens, cached, none, none)
    ids, first, alike = np.unique(shared_id[rows], return_index=True, return_counts=True)
    pays = ~np.isin(ids, list(computing))
    follows = np.ones(len(rows), dtype=np.bool_)
    follows[first[pays]] = False
    followers, leaders = rows[follows], rows[first[pays & (alike > 1)]]
    prefix, common, of = cached.copy(), none.copy(), none.copy()
    common[leaders] = (shared - cached)[leaders]
    tokens[followers] -= (shared - cached)[followers]
    prefix[followers] = shared[followers]
    of[rows] = shared_id[rows]
    return SharedWork(tokens, prefix, common, of)
