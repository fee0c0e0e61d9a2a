"""`slidingserve`: SlidingServe (arXiv 2606.05933) on vLLM V1's mixed steps.

Question: whose prompt is computed in this step, and how much of it, so that the next step is a good
one too? Rule: prompts in the order of a key of several levels, a knapsack over who runs when a TTFT
is at risk, and chunks chosen over two steps; see docs/policies/slidingserve.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.latency import LatencyProfile
from scorpio.core.options import Options, option
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.backlog import Backlog
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.prefill_rate import PrefillRate
from scorpio.core.policies.rivals.slidingserve.chunker import Window
from scorpio.core.policies.rivals.slidingserve.priority import PriorityOrder
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.speed.follow import EngineSpeed
from scorpio.core.step_fill import StepFill


@dataclass(frozen=True, slots=True)
class SlidingServeOptions(Options):
    """urgency_ms: the width of a level of urgency. slack_share: of the least decode slack that a
    step may use."""

    urgency_ms: float = option(100.0, 1.0, 1e6)
    slack_share: float = option(0.9, 0.1, 1.0)


class SlidingServe:
    """State: speed of engine and prefill, and the predicted time of the last plan."""

    name = "slidingserve"
    passive = False

    def __init__(self, profile: LatencyProfile, options: SlidingServeOptions) -> None:
        self._slack_share = options.slack_share
        self._order = PriorityOrder(options.urgency_ms / 1000.0)
        self._speed = EngineSpeed(profile.step)
        self._rate = PrefillRate(profile.step)
        self._planned_s = 0.0

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first; the order in a step is another one."""
        return view.deadline_s

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed, and that of prefill beside the decodes."""
        self._speed.observe(sample)
        self._rate.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        model, budget = self._speed.model(), snapshot.limits.token_budget
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        step = StepTime.of(model, snapshot, start_s)
        decodes = step.decodes
        self._planned_s = decodes.alone_s
        if decodes.count == len(snapshot.running) and not len(snapshot.waiting):
            return STOCK_STEP
        limit_s = self._slack_share * step.limit_s
        backlog = Backlog.of(snapshot)
        order = self._order.order(backlog, start_s + decodes.alone_s, self._rate.token_s)
        jobs = list(backlog.jobs(order))
        chunk = Window.of(model, backlog, step, limit_s, jobs).best_tokens()
        most = min(decodes.count + chunk, budget)
        fill = StepFill(model, limit_s, most, decodes.count, decodes.context_tokens)
        picker = Picker(snapshot, fill, step.slack_s, preempt=True)
        plan = picker.plan(jobs, limit_s + decodes.alone_s)
        self._planned_s = fill.time_s
        return plan
