"""What does the served scheduler need to run in virtual time? Another clock, nothing else."""

from __future__ import annotations

from typing import Protocol

from scorpio.engine.scheduler import ScorpioScheduler


class Clock(Protocol):
    """Anything that knows the time."""

    now_s: float


class _Stopped:
    now_s = 0.0


class VirtualScorpioScheduler(ScorpioScheduler):
    """`clock` is set before the first request; wall clock and monotonic clock are the same."""

    clock: Clock = _Stopped()

    def now_s(self) -> float:
        return self.clock.now_s

    def wall_s(self) -> float:
        return self.clock.now_s

    @property
    def policy_fallbacks(self) -> int:
        """Steps that were stock because the policy failed."""
        return self._telemetry.fallbacks
