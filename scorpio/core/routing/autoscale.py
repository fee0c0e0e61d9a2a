"""How many replicas keep the target share of promises, by the time a new one is warm?

1. What may come when a replica that starts now is warm: the forecast, and what it was off by so
   far (`load_forecast.py`).
2. Wanted is the least number with which, over all of that, the target share is kept (`carried.py`).
   So the headroom is no constant: it follows from the target and from how well load can be told.
3. More at once. Fewer only when fewer were wanted for all of `hold_s`, so never before the rule
   has looked for as long, and when the load of now, N/(N-1) times as much for each that stays,
   would be kept, too. What goes is drained first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from scorpio.core.routing.carried import Kept
from scorpio.core.routing.load_forecast import DAY_S, ForecastOptions, LoadForecast


@dataclass(frozen=True, slots=True)
class AutoscaleOptions:
    """target: share of requests that are to be good. warm_up_s: from the order to the first
    request. hold_s: how long fewer must do before one goes. every_s: between two looks."""

    target: float = 0.97
    warm_up_s: float = 100.0
    hold_s: float = 300.0
    min_replicas: int = 1
    max_replicas: int = 16
    every_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.target < 1.0:
            raise ValueError(f"target must be in [0.5, 1), got {self.target!r}")
        for name, least in (("warm_up_s", 0.0), ("hold_s", 0.0), ("every_s", 1.0)):
            if not least <= getattr(self, name) <= DAY_S:
                value = getattr(self, name)
                raise ValueError(f"{name} must be in [{least:g}, {DAY_S:g}], got {value!r}")
        if not 1 <= self.min_replicas <= self.max_replicas <= 4096:
            raise ValueError(
                "min_replicas and max_replicas must be in 1 <= min <= max <= 4096,"
                f" got {self.min_replicas!r} and {self.max_replicas!r}"
            )


class Autoscaler:
    """State: the forecast, what was wanted lately, and since when."""

    def __init__(self, options: AutoscaleOptions) -> None:
        self.options = options
        horizon_s = max(options.warm_up_s + options.every_s, 1.0)
        self.forecast = LoadForecast(ForecastOptions(horizon_s, options.every_s))
        self._wanted: deque[tuple[float, int]] = deque()
        self._first_s: float | None = None

    def wanted(self, now_s: float, load: float, replicas: int, kept: Kept) -> int:
        """So many replicas, from min_replicas to max_replicas.

        Args:
            load: engine seconds per second asked for since the last call (`Demand`).
            replicas: those that serve and those that start; what drains is not among them.
            kept: which share so many replicas keep of a load.
        """
        options = self.options
        self._first_s = now_s if self._first_s is None else self._first_s
        self.forecast.note(now_s, load)
        needed = self._needed(kept)
        while self._wanted and self._wanted[0][0] < now_s - options.hold_s:
            self._wanted.popleft()
        while self._wanted and self._wanted[-1][1] <= needed:
            self._wanted.pop()  # a later and larger one stands for it
        self._wanted.append((now_s, needed))
        present = min(max(replicas, options.min_replicas), options.max_replicas)
        if needed >= present or now_s - self._first_s < options.hold_s:
            return max(needed, present)
        fewer = self._wanted[0][1]  # the most in all of hold_s
        while fewer < present and not self._carries(kept, fewer):
            fewer += 1
        return min(fewer, present)

    def _needed(self, kept: Kept) -> int:
        """By bisection: more replicas never keep less."""
        samples = self.forecast.samples()
        weight = samples if samples.any() else np.ones_like(samples)
        weight = weight / weight.sum()
        low, high = self.options.min_replicas, self.options.max_replicas
        while low < high:
            middle = (low + high) // 2
            if float(weight @ kept(samples, middle)) >= self.options.target:
                high = middle
            else:
                low = middle + 1
        return low

    def _carries(self, kept: Kept, replicas: int) -> bool:
        """Would these alone keep the target of what comes now?"""
        now = np.array([self.forecast.level])
        return bool(kept(now, replicas)[0] >= self.options.target)
