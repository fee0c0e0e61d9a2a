"""Which prompt is computed first? Hybrid EDF/SRPF order with relegation (Niyama/QoServe).

key = TTFT deadline + alpha * prompt tokens left. With a small alpha the earliest deadline goes
first, which is best while all can make it; with a large one the shortest prompt, which
under overload lets most of them make it. One that can no longer make it is relegated: served
after all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.policies.rivals.backlog import MOST_JOBS, Backlog, smallest


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

    def order(self, backlog: Backlog, ready_s: float, token_s: float) -> list[int]:
        """Rows of the backlog, most important first; ready_s, token_s as in `Backlog.lost`."""
        left, deadline_s = backlog.left, backlog.deadline_s
        late = backlog.lost(ready_s, token_s)
        alpha_s = self.alpha_s(float(left[~late].sum()) * token_s)
        on_time, relegated = np.flatnonzero(~late), np.flatnonzero(late)
        order = smallest(on_time, (deadline_s + alpha_s * left)[on_time])
        # `relegated` ascends: unfinished prefills first, then the queue in deadline order.
        return [*order, *relegated[:MOST_JOBS].tolist()]
