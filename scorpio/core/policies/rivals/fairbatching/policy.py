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

from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.options import Options, option
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.backlog import Backlog, smallest
from scorpio.core.policies.rivals.fairbatching.batch import Shifts
from scorpio.core.policies.rivals.paced import PacedPolicy
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.policies.rivals.right_to_refuse import refuse_dearest
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class FairBatchingOptions(Options):
    """slack_share: of the least decode slack that a step may use. spare_tokens: how many tokens
    ahead a decode is that gives way to prompts."""

    slack_share: float = option(0.9, 0.1, 1.0)
    spare_tokens: float = option(2.0, 1.0, 1000.0)


class FairBatching(PacedPolicy):
    """Urgent decodes, prompts, and what the other decodes find left."""

    name = "fairbatching"

    def __init__(self, profile: LatencyProfile, options: FairBatchingOptions) -> None:
        super().__init__(profile, options.slack_share)
        self._spare_tokens = options.spare_tokens

    def _fill(
        self, model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float
    ) -> tuple[StepPlan, float]:
        budget = snapshot.limits.token_budget
        refused = refuse_dearest(model, snapshot, step, limit_s)
        backlog = Backlog.of(snapshot, refused.without)
        ready = step.ready_s, self._rate.token_s
        spare_tokens = self._spare_tokens if backlog.at_risk(*ready) else math.inf
        shifts = Shifts.of(snapshot.running, step, limit_s, spare_tokens)
        fill = shifts.urgent_first(model, limit_s, budget)
        lost = backlog.lost(*ready)
        order = [
            *smallest(np.flatnonzero(~lost), backlog.deadline_s[~lost]),
            *smallest(np.flatnonzero(lost), backlog.deadline_s[lost]),
        ]
        picker = Picker(snapshot, fill, step.slack_s, preempt=True)
        plan = picker.plan(backlog.jobs(order), limit_s + step.decodes.alone_s)
        skipped = shifts.rest(model, fill, limit_s, budget)  # fills the step further
        tokens = max(fill.tokens, 1)
        plan = replace(plan, reject=refused.reject, skip_decode=skipped, token_budget=tokens)
        return plan, fill.time_s
