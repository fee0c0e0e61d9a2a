"""`edf`: which first token is due first?

Question: in which order do waiting requests start? Rule: least TTFT deadline first, nothing
refused, nothing held, chunks as vLLM packs them. In the twin, `priority-edf` is the same order by
vLLM's own priority queue, on its stock scheduler. See docs/policies/edf.md.
"""

from __future__ import annotations

from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.in_order import admit_in_order
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample


class Edf:
    """No state at all."""

    name = "edf"
    passive = False

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first; no TTFT SLO = last, in order of arrival."""
        return view.deadline_s

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        return admit_in_order(snapshot)

    def observe(self, sample: StepSample) -> None:
        """Nothing to learn."""
