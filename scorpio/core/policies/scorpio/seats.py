"""When will there be a seat for each that waits? A batch has `max_num_seqs` of them.

Where answers are long and seats are few, prefill is not what a first token waits for: it waits for
an answer to end. When those do is a matter of their lengths, and each seat that is given away ends
in its turn: a renewal process (Cox, Renewal Theory, 1962; R(t) ~ t/m + (c^2 - 1)/2).
"""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.kv_forecast import MOMENTS
from scorpio.core.policies.scorpio.context import StepContext


class Seats:
    """The seats of this step's batch, and those that become free."""

    def __init__(self, step: StepContext) -> None:
        snapshot, lengths, waiting = step.snapshot, step.lengths, step.snapshot.waiting
        self._start_s, self._step_s = step.start_s, step.usual_step_s()
        self._free = max(snapshot.limits.max_num_seqs - len(snapshot.running), 0)
        runs = lengths.alive(snapshot.running).sum(axis=0)
        joining = min(self._free, len(waiting))  # they end, too; the first stands for all
        if joining:
            runs = runs + joining * lengths.alive_from_start(waiting[0])
        ended = np.maximum.accumulate(runs[0] - runs)
        mean = max(lengths.mean_tokens, 1.0)
        again = (MOMENTS[:, None] - MOMENTS) / mean + 0.5 * (lengths.variation - 1.0)
        again[MOMENTS[:, None] <= MOMENTS] = 0.0
        # Of those that end between two moments, from the later one on.
        each = np.diff(ended, prepend=0.0)
        self._ended = np.maximum.accumulate(ended + np.maximum(again, 0.0) @ each)
        self._rate = max(snapshot.limits.max_num_seqs / mean, 1e-9)  # in the long run, per step

    def free_s(self, place: FloatArray) -> FloatArray:
        """Absolute time at which the first in line (1), the second (2), ... finds a seat."""
        wanted = np.maximum(place - self._free, 0.0)
        # The first moment by which so many have ended, and a part of the time since the one before.
        last = len(MOMENTS) - 1
        at = np.minimum(self._ended.searchsorted(wanted), last)
        before = np.maximum(at - 1, 0)
        ends = self._ended[at] - self._ended[before]
        part = np.minimum((wanted - self._ended[before]) / np.maximum(ends, 1e-9), 1.0)
        steps = MOMENTS[before] + part * (MOMENTS[at] - MOMENTS[before])
        beyond = np.maximum(wanted - self._ended[last], 0.0) / self._rate
        free_s: FloatArray = self._start_s + (steps + beyond) * self._step_s
        return free_s


def seats(step: StepContext) -> Seats | None:
    """None: all that wait find one at once."""
    snapshot = step.snapshot
    if len(snapshot.running) + len(snapshot.waiting) <= snapshot.limits.max_num_seqs:
        return None
    return Seats(step)
