"""Where has this prompt's beginning been sent? What prefix caches probably hold.

No replica is asked: the router remembers where it sent which beginnings, the latest of them, as
routers of llm-d and production-stack do.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.load import RoutedRequest

MOST_BLOCKS = 100_000  # remembered in all; the one not asked for longest is forgotten


class PrefixIndex:
    """Block id -> replicas that were sent a prompt with it. replicas: how many there are."""

    def __init__(self, replicas: int = 0, most_blocks: int = MOST_BLOCKS) -> None:
        self.replicas, self._most = replicas, most_blocks
        self._where: OrderedDict[int, set[int]] = OrderedDict()

    def hits(self, request: RoutedRequest) -> FloatArray:
        """Leading prompt tokens that each replica probably holds, [N]; never the whole prompt."""
        found = np.zeros(self.replicas)
        most = request.prompt_tokens - 1
        holding: set[int] | None = None
        for depth, block in enumerate(request.prefix_ids, 1):
            there = self._where.get(block)
            holding = (holding & there if holding is not None else there) if there else None
            if not holding:
                break
            found[list(holding)] = min(depth * request.prefix_block_tokens, most)
        return found

    def put(self, replica: int, request: RoutedRequest) -> None:
        """It was sent there."""
        for block in request.prefix_ids:
            self._where.setdefault(block, set()).add(replica)
            self._where.move_to_end(block)
        while len(self._where) > self._most:
            self._where.popitem(last=False)

    def forget(self, replica: int) -> None:
        """Its cache is gone."""
        for there in self._where.values():
            there.discard(replica)
