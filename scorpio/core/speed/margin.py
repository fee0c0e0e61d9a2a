"""How far off may the next step be? Per regime: the usual error, what is rare, an upper quantile.

The quantile of executed over predicted time moves up after a step above it and down, nine times
less far, after one below: adaptive conformal inference (Gibbs and Candes 2021), whose coverage in
the long run holds whatever the steps do. No buffer, nothing to sort.
"""

from __future__ import annotations

COVERAGE = 0.9
_MOST = 2.0  # a step that may take twice as long is no step to plan with
_KNOWN = 50  # steps until scale and quantile count
_WEIGHT = 0.02  # of one step in the scale
_PACE = 0.1  # scales that the quantile moves by, at most
_RARE = 6.0  # scales: 4.8 sigma of a normal error
_FORGET, _OFTEN = (
    0.99,
    3.0,
)  # more than 3 in the last hundred: no longer rare, so the engine changed


class StepErrors:
    """The errors of one regime; `error` is executed over predicted time, less one."""

    def __init__(self) -> None:
        self._seen = 0
        self._scale = 0.0  # mean absolute error
        self._quantile = 0.0
        self._surprises = 0.0

    @property
    def margin(self) -> float:
        """Executed over predicted time stays below it in 9 steps of 10; 1 while unknown."""
        return 1.0 if self._seen < _KNOWN else 1.0 + min(max(self._quantile, 0.0), _MOST - 1.0)

    def outlier(self, error: float) -> bool:
        """Follow one step; True when it is as rare as it is large, and so no evidence."""
        self._seen += 1
        known = self._seen > _KNOWN
        size, most = abs(error), _RARE * self._scale
        large = known and size > most
        self._surprises = self._surprises * _FORGET + large
        self._scale += max(_WEIGHT, 1.0 / self._seen) * ((most if large else size) - self._scale)
        step = _PACE * self._scale
        self._quantile += step * COVERAGE if error > self._quantile else step * (COVERAGE - 1.0)
        return large and self._surprises <= _OFTEN
