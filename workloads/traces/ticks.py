"""How is a coarse clock undone? Requests of one tick are spread within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workloads.errors import WorkloadError
from workloads.traces.reading import MAX_TICK_S
from workloads.traces.row import TraceRow


def spread_ticks(rows: Sequence[TraceRow], tick_s: float, seed: int = 0) -> list[TraceRow]:
    """Undo a quantised clock: rows of one tick get sorted uniform times within that tick.

    Mooncake's log ticks every 3 s (give or take 3 ms), BurstGPT's every second. Order is kept, and
    no row passes the next tick. A row's time depends on the rows up to the tick after its own.
    """
    if not 0.0 < tick_s <= MAX_TICK_S:
        raise WorkloadError(f"tick must be 0..{MAX_TICK_S:g} s, got {tick_s!r}")
    arrival_s = np.array([row.arrival_s for row in rows])
    ticks_s, index = np.unique(arrival_s, return_inverse=True)
    widths_s = np.minimum(np.append(np.diff(ticks_s), tick_s), tick_s)
    jitter = np.random.default_rng(seed).random(len(rows))
    order = np.lexsort((jitter, index))  # sort inside each tick; ticks stay in order
    spread_s = arrival_s + jitter[order] * widths_s[index]
    return [replace(row, arrival_s=float(t)) for row, t in zip(rows, spread_s, strict=True)]
