"""`slidingserve`: SlidingServe (arXiv 2606.05933) on vLLM V1's mixed steps.

Question: whose prompt is computed in this step, and how much of it, so that the next step is a good
one too? Rule: prompts in the order of a key of several levels, a knapsack over who runs when a TTFT
is at risk, and chunks chosen over two steps; see docs/policies/slidingserve.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.options import Options, option
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.backlog import Backlog
from scorpio.core.policies.rivals.paced import PacedPolicy
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.slidingserve.chunker import Window
from scorpio.core.policies.rivals.slidingserve.priority import PriorityOrder
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import Snapshot
from scorpio.core.step_fill import StepFill


@dataclass(frozen=True, slots=True)
class SlidingServeOptions(Options):
    """urgency_ms: the width of a level of urgency. slack_share: of the least decode slack that a
    step may use."""

    urgency_ms: float = option(100.0, 1.0, 1e6)
    slack_share: float = option(0.9, 0.1, 1.0)


class SlidingServe(PacedPolicy):
    """The order of the key, and the chunk of the window."""

    name = "slidingserve"

    def __init__(self, profile: LatencyProfile, options: SlidingServeOptions) -> None:
        super().__init__(profile, options.slack_share)
        self._order = PriorityOrder(options.urgency_ms / 1000.0)

    def _fill(
        self, model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float
    ) -> tuple[StepPlan, float]:
        decodes, backlog = step.decodes, Backlog.of(snapshot)
        order = self._order.order(backlog, step.ready_s, self._rate.token_s)
        jobs = list(backlog.jobs(order))
        chunk = Window.of(model, backlog, step, limit_s, jobs).best_tokens()
        most = min(decodes.count + chunk, snapshot.limits.token_budget)
        fill = StepFill(model, limit_s, most, decodes.count, decodes.context_tokens)
        picker = Picker(snapshot, fill, step.slack_s, preempt=True)
        return picker.plan(jobs, limit_s + decodes.alone_s), fill.time_s
