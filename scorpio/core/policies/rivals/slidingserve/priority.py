"""Which prompt is served first? SlidingServe's key of several levels, compared one after the other.

Protection: is its TTFT to be kept? Urgency: how much later could it start, in levels of so many
seconds? Work left: fewer tokens first. When the one order of all is predicted to break a TTFT, a
knapsack says whose is kept (knapsack.py); the others are served behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.policies.rivals.backlog import MOST_JOBS, Backlog
from scorpio.core.policies.rivals.slidingserve.knapsack import in_time


@dataclass(frozen=True, slots=True)
class PriorityOrder:
    """urgency_s: the width of a level of urgency."""

    urgency_s: float

    def order(self, backlog: Backlog, ready_s: float, token_s: float) -> list[int]:
        """Rows of the backlog, most important first; ready_s, token_s as in `Backlog.lost`."""
        due_s, work_s = backlog.deadline_s - ready_s, backlog.left * token_s
        lost = backlog.lost(ready_s, token_s)
        urgency = np.floor((due_s - work_s) / self.urgency_s)
        order = np.lexsort((backlog.left, urgency, lost))
        kept = order[: len(order) - int(np.count_nonzero(lost))]
        if (np.cumsum(work_s[kept]) > due_s[kept]).any():
            kept = kept[np.argsort(due_s[kept], kind="stable")]
            lost[kept[~in_time(due_s[kept], work_s[kept])]] = True
            order = np.lexsort((backlog.left, urgency, lost))
        first: list[int] = order[:MOST_JOBS].tolist()
        return first
