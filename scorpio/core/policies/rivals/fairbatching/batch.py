"""Which decodes come before the prompts of a step, and which take what the prompts leave?

Each decode has an envelope: the times at which its tokens are due (core/slack.py). One ahead of it
by so much that it loses nothing when it sits this step out gives way to prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import StepModel
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import RunningBatch
from scorpio.core.step_fill import StepFill


@dataclass(frozen=True, slots=True)
class Shifts:
    """rows: of the running batch, all that decode. patient: of them, those that come last, [count];
    slack_s, context_tokens: of each."""

    rows: IntArray
    patient: BoolArray
    slack_s: FloatArray
    context_tokens: IntArray

    @classmethod
    def of(
        cls, running: RunningBatch, step: StepTime, limit_s: float, spare_tokens: float
    ) -> Shifts:
        """Patient are those with so many TPOT SLOs to spare at the end of a step that takes
        `limit_s`; never all, and none without a promise: it would wait as long as prompts do."""
        rows, slack_s = np.flatnonzero(running.is_decode), step.slack_s
        slo_s = running.tpot_slo_s[rows]
        patient = np.isfinite(slack_s) & (slack_s >= limit_s + spare_tokens * slo_s)
        if patient.all() and len(rows):
            patient[int(np.argmin(slack_s))] = False
        return cls(rows, patient, slack_s, running.context_tokens[rows])

    def urgent_first(self, model: StepModel, limit_s: float, token_budget: int) -> StepFill:
        """A step that holds those which are not patient."""
        first = self.context_tokens[~self.patient]
        return StepFill(model, limit_s, token_budget, len(first), float(first.sum()))

    def rest(
        self, model: StepModel, fill: StepFill, limit_s: float, token_budget: int
    ) -> list[int]:
        """Puts as many patient ones into `fill` as it still holds, the least slack first; returns
        the rows of those that sit this step out."""
        last = np.flatnonzero(self.patient)
        last = last[np.argsort(self.slack_s[last], kind="stable")]
        cost_s = np.cumsum(model.low_token_s + model.context_token_s * self.context_tokens[last])
        some = len(last)
        if fill.prefill_tokens:
            some = int(cost_s.searchsorted(limit_s - fill.time_s, side="right"))
            some = min(some, token_budget - fill.tokens)
        if some:
            fill.tokens += some
            fill.time_s += float(cost_s[some - 1])
        skipped: list[int] = np.sort(self.rows[last[some:]]).tolist()
        return skipped
