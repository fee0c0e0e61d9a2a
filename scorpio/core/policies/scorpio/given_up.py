"""Which requests run without a claim to their TPOT SLO? One let in without it gets none later."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scorpio.core.arrays import BoolArray
from scorpio.core.snapshot import RunningBatch


class GivenUp:
    """State: the ids let in so by the last plan, and a flag for each running slot."""

    def __init__(self, max_num_seqs: int) -> None:
        self._joining: frozenset[str] = frozenset()
        self._slots = np.zeros(max_num_seqs, dtype=np.bool_)

    def follow(self, running: RunningBatch) -> BoolArray:
        """Rows of the batch that have given it up, [B]; call once in each step."""
        for row in running.joined.nonzero()[0].tolist():
            self._slots[running.slot[row]] = running.views[row].request_id in self._joining
        self._joining = frozenset()
        rows: BoolArray = self._slots[running.slot]
        return rows

    def join(self, request_ids: Iterable[str]) -> None:
        """The plan lets these in although the batch does not keep their TPOT SLO."""
        self._joining = frozenset(request_ids)
