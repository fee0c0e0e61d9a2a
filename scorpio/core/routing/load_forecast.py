"""How much work will come when a replica that starts now is warm? And how wrong is that, usually?

Three simple forecasts, each judged by its own past: the level of the last minute; the level and its
trend; the level times what the same hour of earlier days did. The one that was nearest lately is
taken, and how far off it was says what may come instead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, log

import numpy as np

from scorpio.core.arrays import FloatArray

DAY_S = 86_400.0
BIN_S = 600.0  # of the daily season
LEVEL_S, SLOW_S = 60.0, 300.0  # memory of the level, and of the one that the trend is told from
MOST = 2_880  # errors that count: a day of one each 30 s
LATE = 720  # of these, the last ones say which forecast is nearest
FEW = 60  # errors until which the first guess counts, too
GUESS: FloatArray = np.linspace(-0.3, 0.3, FEW)  # logarithms of errors, before any was learned
QUANTILES: FloatArray = (np.arange(20) + 0.5) / 20
_OFF = 8.0  # an error larger than that factor tells no more
_NEW_DAY = 0.5  # weight of a day against all before it
_STEEP = 2.0  # most that the season may change the level by
_FORECASTS = 3  # level, trend, season


@dataclass(frozen=True, slots=True)
class ForecastOptions:
    """horizon_s: how far ahead. every_s: between two observations."""

    horizon_s: float
    every_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("horizon_s", "every_s"):
            if not 0.0 < getattr(self, name) <= DAY_S:
                raise ValueError(f"{name} must be in (0, {DAY_S:g}], got {getattr(self, name)!r}")


class LoadForecast:
    """State: level, trend, season, and what each forecast said and how wrong it was."""

    def __init__(self, options: ForecastOptions) -> None:
        self._options = options
        self.level, self._slow = 0.0, 0.0
        self._season = np.full(int(DAY_S / BIN_S), np.nan)
        self._bin: tuple[int, float, int] | None = None  # which, sum of loads, how many
        self._said: deque[tuple[float, tuple[float, ...]]] = deque()
        self._errors = np.zeros((_FORECASTS, MOST))  # logarithms; a ring
        self._judged = 0
        self._last_s: float | None = None

    def note(self, now_s: float, load: float) -> None:
        """So much work came since the last time, engine seconds per second. A clock that goes
        back is taken for one that stands."""
        load = max(load, 0.0)
        past_s = 0.0 if self._last_s is None else max(now_s - self._last_s, 0.0)
        first = self._last_s is None
        self._last_s = now_s if first else max(now_s, self._last_s or 0.0)
        self.level = load if first else self.level + _part(past_s, LEVEL_S) * (load - self.level)
        self._slow = load if first else self._slow + _part(past_s, SLOW_S) * (load - self._slow)
        self._learn_season(now_s, load)
        self._judge(now_s, load)
        if len(self._said) < MOST:
            self._said.append((now_s + self._options.horizon_s, self._guesses(now_s)))

    def samples(self) -> FloatArray:
        """Load at the horizon, [20]: equally likely values, the least first."""
        best = self._best()
        errors = self._errors[best, : min(self._judged, MOST)]
        if len(errors) < FEW:
            errors = np.concatenate([errors, GUESS]) if self._judged else GUESS
        guess = self._guesses(self._last_s or 0.0)[best]
        place = QUANTILES * (len(errors) - 1)
        ordered, low = np.sort(errors), place.astype(np.int64)
        off = ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])
        found: FloatArray = guess * np.exp(off)
        return found

    def _best(self) -> int:
        if self._judged < FEW:
            return 0
        last = np.arange(self._judged - min(self._judged, LATE), self._judged) % MOST
        return int(np.argmin(np.abs(self._errors[:, last]).mean(axis=1)))

    def _guesses(self, now_s: float) -> tuple[float, float, float]:
        ahead_s = self._options.horizon_s
        slope = (self.level - self._slow) / (SLOW_S - LEVEL_S)
        here, there = self._usual(now_s - 0.5 * LEVEL_S), self._usual(now_s + ahead_s)
        ratio = there / here if here > 0.0 and np.isfinite(there) else 1.0
        ratio = min(max(ratio, 1.0 / _STEEP), _STEEP)
        return self.level, max(self.level + slope * ahead_s, 0.0), self.level * ratio

    def _usual(self, at_s: float) -> float:
        """At that time of day, between the middles of two bins; nan = not yet known."""
        place = (at_s % DAY_S) / BIN_S - 0.5
        low = int(np.floor(place))
        bins = len(self._season)
        one, two = self._season[low % bins], self._season[(low + 1) % bins]
        return float(one + (place - low) * (two - one))

    def _learn_season(self, now_s: float, load: float) -> None:
        index = int((now_s % DAY_S) // BIN_S) % len(self._season)  # of a tiny minus
        if self._bin is None or self._bin[0] == index:
            _, total, count = self._bin or (index, 0.0, 0)
            self._bin = (index, total + load, count + 1)
            return
        done, total, count = self._bin
        mean, old = total / count, self._season[done]
        self._season[done] = old + _NEW_DAY * (mean - old) if np.isfinite(old) else mean
        self._bin = (index, load, 1)

    def _judge(self, now_s: float, load: float) -> None:
        while self._said and self._said[0][0] <= now_s:
            for row, guess in enumerate(self._said.popleft()[1]):
                self._errors[row, self._judged % MOST] = _log_ratio(load, guess)
            self._judged += 1


def _log_ratio(load: float, guess: float) -> float:
    if guess <= 0.0 or load <= 0.0:
        return 0.0 if load <= 0.0 and guess <= 0.0 else log(_OFF) * (1 if guess <= 0.0 else -1)
    ratio = load / guess  # 0 where a load is too small to be divided
    return min(max(log(ratio), -log(_OFF)), log(_OFF)) if ratio > 0.0 else -log(_OFF)


def _part(past_s: float, memory_s: float) -> float:
    return 1.0 - exp(-past_s / memory_s)
