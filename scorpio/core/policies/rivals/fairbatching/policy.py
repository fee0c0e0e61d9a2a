"""`fairbatching`: FairBatching (arXiv 2510.14392) on vLLM V1's mixed steps.

Question: who gets the coming step, decodes or prompts? Rule: it may take as long as the most urgent
decode has; decodes that cannot sit it out come first, then prompts, the earliest deadline first,
then all other decodes as far as there is time. What the engine has no time to prefill is refused;
see docs/policies/fairbatching.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scorpio.core.latency import LatencyProfile
from scorpio.core.options import Options, option
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.backlog import Backlog, smallest
from scorpio.core.policies.rivals.fairbatching.batch import Shifts
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.prefill_rate import PrefillRate
from scorpio.core.policies.rivals.right_to_refuse import refuse
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.speed.follow import EngineSpeed


@dataclass(frozen=True, slots=True)
class FairBatchingOptions(Options):
    """slack_share: of the least decode slack that a step may use. spare_tokens: how many tokens
    ahead a decode is that gives way to prompts."""

    slack_share: float = option(0.9, 0.1, 1.0)
    spare_tokens: float = option(2.0, 1.0, 1000.0)


class FairBatching:
    """State: speed of engine and prefill, and the predicted time of the last plan."""

    name = "fairbatching"
    passive = False

    def __init__(self, profile: LatencyProfile, options: FairBatchingOptions) -> None:
        self._slack_share, self._spare_tokens = options.slack_share, options.spare_tokens
        self._speed = EngineSpeed(profile.step)
        self._rate = PrefillRate(profile.step)
        self._planned_s = 0.0

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first: the beginning of the envelope."""
        return view.deadline_s

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed, and that of prefill beside the decodes."""
        self._speed.observe(sample)
        self._rate.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        model, running, budget = self._speed.model(), snapshot.running, snapshot.limits.token_budget
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        step = StepTime.of(model, snapshot, start_s)
        self._planned_s = step.decodes.alone_s
        if step.decodes.count == len(running) and not len(snapshot.waiting):
            return STOCK_STEP
        limit_s = self._slack_share * step.limit_s
        refused = refuse(model, snapshot, step, limit_s)
        backlog = Backlog.of(snapshot, refused.without)
        ready = start_s + step.decodes.alone_s, self._rate.token_s
        spare_tokens = self._spare_tokens if backlog.at_risk(*ready) else math.inf
        shifts = Shifts.of(running, step, limit_s, spare_tokens)
        fill = shifts.urgent_first(model, limit_s, budget)
        lost = backlog.lost(*ready)
        order = [
            *smallest(np.flatnonzero(~lost), backlog.deadline_s[~lost]),
            *smallest(np.flatnonzero(lost), backlog.deadline_s[lost]),
        ]
        picker = Picker(snapshot, fill, step.slack_s, preempt=True)
        plan = picker.plan(backlog.jobs(order), limit_s + step.decodes.alone_s)
        skipped = shifts.rest(model, fill, limit_s, budget)
        self._planned_s = fill.time_s
        tokens = max(fill.tokens, 1)
        return replace(plan, reject=refused.reject, skip_decode=skipped, token_budget=tokens)
