"""`qoserve`: Niyama/QoServe (arXiv 2503.22562) on vLLM V1's mixed steps.

Question: whose prompt is computed in this step, and how much of it? Rule: the largest chunk that
leaves the least decode slack intact, given to prompts in hybrid EDF/SRPF order, behind them
those that can no longer make it; see docs/policies/qoserve.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.options import Options, option
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.backlog import Backlog
from scorpio.core.policies.rivals.paced import PacedPolicy
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.qoserve.prefill_order import PrefillOrder
from scorpio.core.policies.rivals.right_to_refuse import NONE_REFUSED, refuse_lost
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import Snapshot
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


class Qoserve(PacedPolicy):
    """refuses: it has the right to refuse (`qoserve+reject`)."""

    def __init__(
        self, profile: LatencyProfile, options: QoserveOptions, refuses: bool = False
    ) -> None:
        super().__init__(profile, options.slack_share)
        self.name = "qoserve+reject" if refuses else "qoserve"
        self._refuses = refuses
        self._preempt = options.preempt > 0.0
        self._order = PrefillOrder(
            options.alpha_low_ms / 1000.0,
            options.alpha_high_ms / 1000.0,
            options.full_load_s,
        )

    def _fill(
        self, model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float
    ) -> tuple[StepPlan, float]:
        decodes, budget = step.decodes, snapshot.limits.token_budget
        refused = NONE_REFUSED
        if self._refuses:
            refused = refuse_lost(model, snapshot, step, self._rate.token_s)
        fill = StepFill(model, limit_s, budget, decodes.count, decodes.context_tokens)
        backlog = Backlog.of(snapshot, refused.without)
        order = self._order.order(backlog, step.ready_s, self._rate.token_s)
        picker = Picker(snapshot, fill, step.slack_s, self._preempt)
        plan = picker.plan(backlog.jobs(order), limit_s + decodes.alone_s)
        return replace(plan, reject=refused.reject), fill.time_s
