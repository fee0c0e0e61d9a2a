"""`fcfs`: stock vLLM. Question: what would vLLM do without us? Rule: exactly that."""

from __future__ import annotations

from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample


class Fcfs:
    """Every step is stock `schedule()`; arrival order, nothing skipped, nothing refused."""

    name = "fcfs"
    passive = True

    def queue_key(self, view: RequestView) -> float:
        return view.arrival_s

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        return STOCK_STEP

    def observe(self, sample: StepSample) -> None:
        """Nothing to learn."""
