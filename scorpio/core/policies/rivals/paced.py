"""What do rivals that pace steps by slack have in common? How long may this one take, beside what.

Each follows the engine's speed and that of prefill, leaves steps without prompts to stock vLLM, and
spends a share of the least decode slack. How it fills a step so long is its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.plan import STOCK_STEP, StepPlan
from scorpio.core.policies.rivals.prefill_rate import PrefillRate
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.core.speed.follow import EngineSpeed


class PacedPolicy(ABC):
    """State: speed of engine and prefill, and the predicted time of the last plan. slack_share: of
    the least decode slack that a step may use."""

    passive = False

    def __init__(self, profile: LatencyProfile, slack_share: float) -> None:
        self._slack_share = slack_share
        self._speed = EngineSpeed(profile.step)
        self._rate = PrefillRate(profile.step)
        self._planned_s = 0.0

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first; the order in a step may be another one."""
        return view.deadline_s

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed, and that of prefill beside the decodes."""
        self._speed.observe(sample)
        self._rate.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        """Stock's where no prompt is to be computed."""
        model = self._speed.model()
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        step = StepTime.of(model, snapshot, start_s)
        self._planned_s = step.decodes.alone_s
        if step.decodes.count == len(snapshot.running) and not len(snapshot.waiting):
            return STOCK_STEP
        limit_s = self._slack_share * step.limit_s
        plan, self._planned_s = self._fill(model, snapshot, step, limit_s)
        return plan

    @abstractmethod
    def _fill(
        self, model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float
    ) -> tuple[StepPlan, float]:
        """The step, which may take `limit_s`, and its predicted time."""
