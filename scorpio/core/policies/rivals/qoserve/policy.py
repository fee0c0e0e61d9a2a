"""`qoserve`: Niyama/QoServe (arXiv 2503.22562) on vLLM V1's mixed steps.

Question: whose prompt is computed in this step, and how much of it? Rule: the largest chunk that
leaves the least decode slack intact, given to prompts in hybrid EDF/SRPF order, behind them
those that can no longer make it; see docs/policies/qoserve.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorpio.core.decodes import Decodes
from scorpio.core.latency import LatencyProfile
from scorpio.core.options import Options, option
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.qoserve.prefill_order import PrefillOrder
from scorpio.core.policies.rivals.qoserve.prefill_pick import Picker
from scorpio.core.request import RequestView
from scorpio.core.slack import decode_slack_s, least_slack_s, step_start_s
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.step_fill import StepFill

# Of a step of decodes alone; with less slack than that a token is late whatever the step does.
_HOPELESS = 0.5
_RATE_WEIGHT = 0.1  # of a new sample in the measured prefill rate
_LEAST_SAMPLE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class QoserveOptions(Options):
    """alpha_low_ms, alpha_high_ms: weight of a prompt token against the deadline, without load and
    with `full_load_s` of it. slack_share: of the least decode slack that a step may use. preempt:
    above 0, one with a better claim goes before prefills that have begun."""

    alpha_low_ms: float = option(1.0, 0.0, 1000.0)
    alpha_high_ms: float = option(8.0, 0.0, 1000.0)
    full_load_s: float = option(30.0, 0.01, 3600.0)
    slack_share: float = option(1.0, 0.1, 1.0)
    preempt: float = option(1.0, 0.0, 1.0)


class Qoserve:
    """State: the measured seconds per prefill token, and the predicted time of the last plan."""

    name = "qoserve"
    passive = False

    def __init__(self, profile: LatencyProfile, options: QoserveOptions) -> None:
        self._model = profile.step
        self._slack_share = options.slack_share
        self._preempt = options.preempt > 0.0
        self._order = PrefillOrder(
            options.alpha_low_ms / 1000.0,
            options.alpha_high_ms / 1000.0,
            options.full_load_s,
        )
        self.prefill_token_s = profile.step.high_token_s
        self._planned_s = 0.0

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first: the order of those that are relegated."""
        return view.deadline_s

    def observe(self, sample: StepSample) -> None:
        """Prefill speed as it is beside the decodes: whole step time per prefill token."""
        if sample.prefill_tokens >= _LEAST_SAMPLE_TOKENS:
            rate_s = sample.duration_s / sample.prefill_tokens
            self.prefill_token_s += _RATE_WEIGHT * (rate_s - self.prefill_token_s)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        running = snapshot.running
        decodes = Decodes.of(self._model, running)
        self._planned_s = decodes.alone_s
        if decodes.count == len(running) and not len(snapshot.waiting):
            return STOCK_STEP
        slack_s = decode_slack_s(running, decodes.rows, running.tpot_slo_s[decodes.rows], start_s)
        limit_s = math.inf
        if decodes.count:
            limit_s = self._slack_share * least_slack_s(slack_s, _HOPELESS * decodes.alone_s)
        fill = StepFill(
            self._model,
            limit_s,
            snapshot.limits.token_budget,
            decodes.count,
            decodes.context_tokens,
        )
        jobs = self._order.jobs(snapshot, start_s + decodes.alone_s, self.prefill_token_s)
        picked = Picker(snapshot, fill, slack_s, self._preempt)
        plan = picked.plan(jobs, limit_s + decodes.alone_s)
        self._planned_s = fill.time_s
        return plan
