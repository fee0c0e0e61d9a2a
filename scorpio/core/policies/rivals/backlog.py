"""Which prompts are there to compute? Unfinished prefills and those that wait, as columns.

Each rival puts them into an order of its own; the head of it is made into jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.snapshot import Snapshot

# More prompts than this do not start in one step; the rest of the queue is not even sorted.
MOST_JOBS = 32


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt to compute: a row of `running` (unfinished prefill) or of `waiting`."""

    row: int
    is_running: bool
    tokens: int
    prefix_tokens: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Columns over unfinished prefills, then those that wait and have not begun, [n].

    resumed: so many preempted ones stand before all others in the waiting table; the engine lets
    them in by itself. row: of `running` for the first `partials`, else of `waiting`.
    """

    snapshot: Snapshot
    resumed: int
    partials: int
    row: IntArray
    left: FloatArray
    deadline_s: FloatArray

    @classmethod
    def of(cls, snapshot: Snapshot, without: BoolArray | None = None) -> Backlog:
        """Those that wait only as far as there is a seat. without: waiting rows left out."""
        running, waiting = snapshot.running, snapshot.waiting
        resumed = int(np.count_nonzero(waiting.started))
        partial = np.flatnonzero(~running.is_decode)
        seats = snapshot.limits.max_num_seqs - len(running) - resumed
        rows = np.arange(resumed, len(waiting) if seats > 0 else resumed)
        if without is not None:
            rows = rows[~without[rows]]
        left = [running.prefill_left[partial].astype(np.float64), waiting.prefill_tokens[rows]]
        return cls(
            snapshot,
            resumed,
            len(partial),
            np.concatenate([partial, rows]),
            np.concatenate(left),
            np.concatenate([running.deadline_s[partial], waiting.deadline_s[rows]]),
        )

    def lost(self, ready_s: float, token_s: float) -> BoolArray:
        """Those that could not have their first token in time even if they were next, [n].
        ready_s: when a prompt of no tokens would be done. token_s: time per prompt token."""
        lost: BoolArray = ready_s + self.left * token_s > self.deadline_s
        return lost

    def at_risk(self, ready_s: float, token_s: float) -> bool:
        """Would one that is not lost be late, served in order of deadline?"""
        order = np.argsort(self.deadline_s, kind="stable")
        done_s = ready_s + np.cumsum(self.left[order]) * token_s
        late = (done_s > self.deadline_s[order]) & ~self.lost(ready_s, token_s)[order]
        return bool(late.any())

    def jobs(self, order: Iterable[int]) -> Iterator[Job]:
        """In this order of the columns; preempted ones before all. An unfinished prefill that is
        not named comes last and is never cut off: it holds KV that others wait for."""
        waiting = self.snapshot.waiting
        for row in range(self.resumed):
            yield Job(row, False, waiting[row].prefill_tokens, waiting[row].cached_tokens)
        named = list(order)
        for i in [*named, *sorted(set(range(self.partials)) - set(named))]:
            row, tokens = int(self.row[i]), int(self.left[i])
            if i < self.partials:
                yield Job(row, True, tokens, int(self.snapshot.running.context_tokens[row]))
            else:
                yield Job(row, False, tokens, waiting[row].cached_tokens)


def smallest(rows: IntArray, key: FloatArray) -> list[int]:
    """The rows with the smallest keys, in order; ties by row."""
    if len(rows) > MOST_JOBS:
        near = np.sort(np.argpartition(key, MOST_JOBS)[:MOST_JOBS])
        rows, key = rows[near], key[near]
    order: list[int] = rows[np.argsort(key, kind="stable")].tolist()
    return order
