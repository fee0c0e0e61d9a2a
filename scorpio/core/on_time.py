"""Which requests should be shed, so that as many others as possible are on time?

Moore (1968) and Hodgson: on one machine, walk the jobs in order of deadline; whenever one would be
late, drop the LONGEST accepted so far. That maximises the number of jobs on time. Here the one that
COSTS most goes: beside its prefill a request takes the time of its decodes, later. The published
SCORPIO guard refuses the request that misses instead of the one that costs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray

# Refusals cost O(queue) each; the rest of a flood is refused in the following steps. That many at
# 20 ms a step.
MAX_DROPS_PER_STEP = 64
_BLOCK = 256  # rows looked at together for the first late one


def to_shed(
    deadline_s: FloatArray,
    work_s: FloatArray,
    cost_s: Callable[[], FloatArray],
    may_drop: BoolArray,
    done_s: Callable[[FloatArray], FloatArray],
    most: int = MAX_DROPS_PER_STEP,
) -> IntArray:
    """Rows to shed, in the order they were dropped: with cost = work, Moore-Hodgson.

    Rows stand in the order of service, by deadline as far as there is one (inf: never late);
    `done_s` maps cumulative work to finish times and is monotone; `cost_s` is
    asked for only when a row might be late. A row that could not be on time even alone drags
    no other out: it is dropped itself, or stays as it is when it may not be. At most `most` go.
    """
    end = _reach(deadline_s, work_s, done_s)
    if end == 0:
        return np.empty(0, dtype=np.int64)
    deadline_s, work_s, may_drop = deadline_s[:end], work_s[:end], may_drop[:end]
    counts = done_s(work_s) <= deadline_s
    hopeless = may_drop & ~counts
    dropped = hopeless.nonzero()[0][:most].tolist()
    total_s = np.cumsum(np.where(hopeless, 0.0, work_s))
    droppable = np.where(may_drop & counts, cost_s()[:end], -1.0)
    row, freed_s = _next(droppable, 0), 0.0
    while row < end and len(dropped) < most:
        # All that were dropped stand before `row`, so all behind it are `freed_s` earlier.
        block = slice(row, min(row + _BLOCK, end))
        late = counts[block] & (done_s(total_s[block] - freed_s) > deadline_s[block])
        found = int(np.argmax(late))
        if not late[found]:
            row = block.stop
            continue
        row += found
        costliest = int(np.argmax(droppable[: row + 1]))
        if droppable[costliest] < 0.0:  # none left that could make room for it
            row = _next(droppable, row)
            continue
        freed_s += float(work_s[costliest])
        droppable[costliest], counts[costliest] = -1.0, False
        dropped.append(costliest)
    return np.array(dropped, dtype=np.int64)


def _next(droppable: FloatArray, row: int) -> int:
    """The first row from `row` on that may still be dropped, or the end."""
    able = np.flatnonzero(droppable[row:] >= 0.0)
    return row + int(able[0]) if len(able) else len(droppable)


def _reach(
    deadline_s: FloatArray, work_s: FloatArray, done_s: Callable[[FloatArray], FloatArray]
) -> int:
    """Rows due after the whole queue has drained are on time whatever happens: skip them."""
    due_s = np.minimum.accumulate(deadline_s[::-1])[::-1]  # of each and of all behind it
    end = len(due_s)
    while end:
        drained_s = float(done_s(work_s[:end].sum(keepdims=True))[0])
        reach = int(due_s[:end].searchsorted(drained_s))
        if reach > end // 2:
            return reach
        end = reach
    return 0
