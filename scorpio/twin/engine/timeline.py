"""What did the engine look like over time? Samples for plots, at most one per period."""

from __future__ import annotations

from scorpio.engine.virtual.requests import Scheduler
from scorpio.twin.engine.ledger import Ledger
from workloads.results.aggregate import TimelineSample


class Timeline:
    """Samples in order of time."""

    def __init__(self, period_s: float = 1.0) -> None:
        self.samples: list[TimelineSample] = []
        self._period_s = period_s
        self._next_s = 0.0

    def sample(self, now_s: float, scheduler: Scheduler, ledger: Ledger) -> None:
        """Take a sample when one is due."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._period_s
        running, waiting = scheduler.get_request_counts()
        self.samples.append(
            TimelineSample(
                t_s=now_s,
                waiting=waiting,
                running=running,
                kv_used_fraction=scheduler.get_kv_cache_usage(),
                rejected_total=ledger.refused,
            )
        )
