"""`qoserve`: Niyama/QoServe (arXiv 2503.22562) on vLLM V1's mixed steps.

Question: whose prompt is computed in this step, and how much of it? Rule: the largest chunk that
leaves the least decode slack intact, given to prompts in hybrid EDF/SRPF order, behind them
those that can no longer make it; see docs/policies/qoserve.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scorpio.core.latency import LatencyProfile
from scorpio.core.options import Options, option
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.backlog import Backlog
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.prefill_rate import PrefillRate
from scorpio.core.policies.rivals.qoserve.prefill_order import PrefillOrder
from scorpio.core.policies.rivals.right_to_refuse import NONE_REFUSED, refuse
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.speed.follow import EngineSpeed
from scorpio.core.step_fill import StepFill


@dataclass(frozen=True, slots=True)
class QoserveOptions(Options):
    """alpha_low_ms, alpha_high_ms: weight of a prompt token against the deadline, without load and
    with `full_load_s` of it. slack_share: of the least decode slack that a step may use. preempt:
    above 0, one with a better claim goes before prefills that have begun."""

    alpha_low_ms: float = option(1.0, 0.0, 1000.0)
    alpha_high_ms: float = option(8.0, 0.0, 1000.0)
    full_load_s: float = option(30.0, 0.01, 3600.0)
    slack_share: float = option(0.9, 0.1, 1.0)
    preempt: float = option(1.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class RefusingOptions(QoserveOptions):
    """Of `qoserve+reject`. What it does not refuse can all be in time, but by deadline only."""

    alpha_low_ms: float = option(0.0, 0.0, 1000.0)
    alpha_high_ms: float = option(0.0, 0.0, 1000.0)


class Qoserve:
    """State: speed of engine and prefill, and the predicted time of the last plan. refuses: it has
    the right to refuse (`qoserve+reject`)."""

    passive = False

    def __init__(
        self, profile: LatencyProfile, options: QoserveOptions, refuses: bool = False
    ) -> None:
        self.name = "qoserve+reject" if refuses else "qoserve"
        self._refuses = refuses
        self._slack_share = options.slack_share
        self._preempt = options.preempt > 0.0
        self._order = PrefillOrder(
            options.alpha_low_ms / 1000.0,
            options.alpha_high_ms / 1000.0,
            options.full_load_s,
        )
        self._speed = EngineSpeed(profile.step)
        self._rate = PrefillRate(profile.step)
        self._planned_s = 0.0

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first: the order of those that are relegated."""
        return view.deadline_s

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed, and that of prefill beside the decodes."""
        self._speed.observe(sample)
        self._rate.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        model, token_s = self._speed.model(), self._rate.token_s
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        step = StepTime.of(model, snapshot, start_s)
        decodes = step.decodes
        self._planned_s = decodes.alone_s
        if decodes.count == len(snapshot.running) and not len(snapshot.waiting):
            return STOCK_STEP
        limit_s = self._slack_share * step.limit_s
        refused = refuse(model, snapshot, step, limit_s) if self._refuses else NONE_REFUSED
        fill = StepFill(
            model, limit_s, snapshot.limits.token_budget, decodes.count, decodes.context_tokens
        )
        backlog = Backlog.of(snapshot, refused.without)
        order = self._order.order(backlog, start_s + decodes.alone_s, token_s)
        picker = Picker(snapshot, fill, step.slack_s, self._preempt)
        plan = picker.plan(backlog.jobs(order), limit_s + decodes.alone_s)
        self._planned_s = fill.time_s
        return replace(plan, reject=refused.reject)
