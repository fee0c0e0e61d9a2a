"""What does the served scheduler need to run in virtual time? Another clock, nothing else."""

from __future__ import annotations

from typing import Protocol

from scorpio.engine.scheduler import ScorpioScheduler
from scorpio.engine.virtual_requests import SchedulerOutput


class Clock(Protocol):
    """Anything that knows the time."""

    now_s: float


class _Stopped:
    now_s = 0.0


class VirtualScorpioScheduler(ScorpioScheduler):
    """`clock` is set before the first request; wall clock and monotonic clock are the same."""

    clock: Clock = _Stopped()
    plan_s = 0.0  # this machine's time in snapshot, plan and apply so far

    def now_s(self) -> float:
        return self.clock.now_s

    def wall_s(self) -> float:
        return self.clock.now_s

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        output = super().schedule(throttle_prefills)
        self.plan_s += self._telemetry.last_plan_s
        return output

    @property
    def policy_fallbacks(self) -> int:
        """Steps that were stock because the policy failed."""
        return self._telemetry.fallbacks
