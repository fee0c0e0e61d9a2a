"""What does the served scheduler need to run in virtual time? Another clock, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from scorpio.core.plan import Forecast
from scorpio.engine.scheduler import ScorpioScheduler
from scorpio.engine.virtual.requests import SchedulerOutput


class Clock(Protocol):
    """Anything that knows the time."""

    now_s: float


class _Stopped:
    now_s = 0.0


class VirtualScorpioScheduler(ScorpioScheduler):
    """`clock` is set before the first request; wall clock and monotonic clock are the same."""

    clock: Clock = _Stopped()
    plan_s = 0.0  # this machine's time in snapshot, plan and apply so far

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forecasts: dict[str, Forecast] = {}  # of all requests; the latest counts

    def now_s(self) -> float:
        return self.clock.now_s

    def wall_s(self) -> float:
        return self.clock.now_s

    def planning_s(self) -> float:
        return 0.0  # of virtual time

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        output = super().schedule(throttle_prefills)
        self.plan_s += self._telemetry.last_plan_s
        return output

    def _note_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        super()._note_forecasts(forecasts)
        self.forecasts.update((forecast.request_id, forecast) for forecast in forecasts)

    @property
    def policy_fallbacks(self) -> int:
        """Steps that were stock because the policy failed."""
        return self._telemetry.fallbacks
