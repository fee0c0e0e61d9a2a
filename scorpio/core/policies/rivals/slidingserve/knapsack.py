"""Which prompts are computed when not all can be in time? A 0/1 knapsack over who runs.

Prompts share one engine, and each that is chosen must end by its deadline. Walking them by
deadline, dynamic programming keeps, for each amount of time used, the most that can be in time
(Lawler and Moore 1969).
"""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray

_UNITS = 512  # of time, from now to the last deadline; work is rounded down
_MOST = 96  # prompts that are looked at; the deadlines of the others are far


def in_time(due_s: FloatArray, work_s: FloatArray) -> BoolArray:
    """Which to run, [n]; due_s: from now, in order. Those beyond the first `_MOST` run."""
    chosen = np.ones(len(due_s), dtype=np.bool_)
    due_s, work_s = due_s[:_MOST], work_s[:_MOST]
    unit_s = max(min(float(due_s[-1]), float(work_s.sum())) / _UNITS, 1e-9)
    units = np.floor(work_s / unit_s).astype(np.int64).tolist()
    last = np.minimum(due_s / unit_s, _UNITS).astype(np.int64).tolist()
    most = np.zeros(_UNITS + 1)  # in time, for each time used at most
    takes = np.zeros((len(units), _UNITS + 1), dtype=np.bool_)
    for job, (own, end) in enumerate(zip(units, last, strict=True)):
        if own > end:
            continue
        with_it = most.copy()
        with_it[own : end + 1] = most[: end + 1 - own] + 1.0
        takes[job] = with_it > most
        most = np.maximum(with_it, most)
    used = int(np.argmax(most))
    for job in range(len(units) - 1, -1, -1):
        chosen[job] = takes[job, used]
        used -= units[job] * int(chosen[job])
    return chosen
