"""Whom should we let go, so that as many of the others as possible are on time?

Moore (1968) and Hodgson: on one machine, walk the jobs in order of deadline; whenever one would be
late, drop the LONGEST accepted so far. That maximises the number of jobs on time. The published
SCORPIO guard refuses the request that misses instead of the one that costs (docs/policy.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scorpio.core.views import BoolArray, FloatArray, IntArray

# Refusals cost O(queue) each; the rest of a flood is refused in the following steps.
MAX_DROPS_PER_STEP = 64


def let_go(
    deadline_s: FloatArray,
    work_s: FloatArray,
    may_drop: BoolArray,
    done_s: Callable[[FloatArray], FloatArray],
) -> IntArray:
    """Rows to let go, in the order they were dropped.

    `deadline_s` ascends; `done_s` maps cumulative work to finish times and is monotone. A row that
    may not be dropped and could not be on time even alone drags nobody else out.
    """
    end = _reach(deadline_s, work_s, done_s)
    if end == 0:
        return np.empty(0, dtype=np.int64)
    deadline_s, work_s = deadline_s[:end], work_s[:end]
    droppable = may_drop[:end].copy()
    counts = droppable | (done_s(work_s) <= deadline_s)
    total_s = np.cumsum(work_s)
    dropped: list[int] = []
    for _ in range(MAX_DROPS_PER_STEP):
        late = counts & (done_s(total_s) > deadline_s) & (np.cumsum(droppable) > 0)
        if not late.any():
            break
        first_late = int(np.argmax(late))
        longest = int(
            np.argmax(np.where(droppable[: first_late + 1], work_s[: first_late + 1], -1))
        )
        total_s[longest:] -= work_s[longest]
        droppable[longest] = counts[longest] = False
        dropped.append(longest)
    return np.array(dropped, dtype=np.int64)


def _reach(
    deadline_s: FloatArray, work_s: FloatArray, done_s: Callable[[FloatArray], FloatArray]
) -> int:
    """Rows due after the whole queue has drained are on time whatever happens: skip them."""
    end = len(deadline_s)
    while end:
        drained_s = float(done_s(work_s[:end].sum(keepdims=True))[0])
        reach = int(deadline_s[:end].searchsorted(drained_s))
        if reach > end // 2:
            return reach
        end = reach
    return 0
