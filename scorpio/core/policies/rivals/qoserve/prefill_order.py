"""Which prompt is computed first? Hybrid EDF/SRPF order with relegation (Niyama/QoServe).

key = TTFT deadline + alpha * prompt tokens left. With a small alpha the earliest deadline goes
first, which is best while all can make it; with a large one the shortest prompt, which
under overload lets most of them make it. One that can no longer make it is relegated: served
after all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.snapshot import Snapshot

# More prompts than this do not start in one step; the rest of the queue is not even sorted.
_MOST_JOBS = 32


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt to compute: a row of `running` (unfinished prefill) or of `waiting`."""

    row: int
    is_running: bool
    tokens: int
    prefix_tokens: int


@dataclass(frozen=True, slots=True)
class PrefillOrder:
    """alpha goes from `low_s` to `high_s` per token as the backlog grows to `full_load_s`."""

    low_s: float
    high_s: float
    full_load_s: float

    def alpha_s(self, backlog_s: float) -> float:
        """Seconds of deadline that one prompt token is worth at this load."""
        load = min(backlog_s / self.full_load_s, 1.0)
        return self.low_s + (self.high_s - self.low_s) * load

    def jobs(self, snapshot: Snapshot, ready_s: float, token_s: float) -> Iterator[Job]:
        """All with prompt left, most important first; preempted ones before all.

        ready_s: when a prompt of no tokens would be done. token_s: time per prompt token.
        """
        running, waiting = snapshot.running, snapshot.waiting
        first = int(np.count_nonzero(waiting.started))
        for row in range(first):
            yield Job(row, False, waiting[row].prefill_tokens, waiting[row].cached_tokens)
        partial = np.flatnonzero(~running.is_decode)
        seats = snapshot.limits.max_num_seqs - len(running) - first
        waits = slice(first, None if seats > 0 else first)
        left = np.concatenate(
            [running.prefill_left[partial].astype(np.float64), waiting.prefill_tokens[waits]]
        )
        deadline_s = np.concatenate([running.deadline_s[partial], waiting.deadline_s[waits]])
        late = ready_s + left * token_s > deadline_s
        alpha_s = self.alpha_s(float(left[~late].sum()) * token_s)
        on_time, relegated = np.flatnonzero(~late), np.flatnonzero(late)
        order = _smallest(on_time, (deadline_s + alpha_s * left)[on_time])
        # `relegated` ascends: unfinished prefills first, then the queue in deadline order.
        order += relegated[:_MOST_JOBS].tolist()
        # An unfinished prefill is never cut off: it holds KV that others wait for.
        order += sorted(set(range(len(partial))) - set(order))
        for i in order:
            if i < len(partial):
                row = int(partial[i])
                yield Job(row, True, int(left[i]), int(running.context_tokens[row]))
            else:
                row = i - len(partial) + first
                yield Job(row, False, int(left[i]), waiting[row].cached_tokens)


def _smallest(rows: IntArray, key: FloatArray) -> list[int]:
    """The rows with the smallest keys, in order; ties by row."""
    if len(rows) > _MOST_JOBS:
        near = np.sort(np.argpartition(key, _MOST_JOBS)[:_MOST_JOBS])
        rows, key = rows[near], key[near]
    order: list[int] = rows[np.argsort(key, kind="stable")].tolist()
    return order
