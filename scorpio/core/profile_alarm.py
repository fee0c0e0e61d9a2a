"""Is the latency profile one of this engine at all? The alarm that no policy can switch off.

A profile of another model, machine or set of flags makes every forecast wrong in the same way, and
requests that are refused by it teach nothing. What steps took over what the profile says is
followed in logarithms, so that neither a stall nor a lucky step decides.
"""

from __future__ import annotations

import math

_WEIGHT = 0.05  # of one step
_STEPS = 20  # until anything is said
_ON, _OFF = math.log(2.0), math.log(1.6)  # how far off is too far, and when it is over
_FAR = math.log(4.0)  # of what was usual: more of one step is not believed


class ProfileAlarm:
    """`on` while it lasts; `episodes` so far; `factor` is executed over predicted step time."""

    def __init__(self) -> None:
        self._log = 0.0
        self._seen = 0
        self.on = False
        self.episodes = 0

    @property
    def factor(self) -> float:
        """1 = as the profile says."""
        return math.exp(self._log)

    def observe(self, executed_s: float, predicted_s: float) -> bool:
        """Follow one step; True when an episode begins."""
        if not (0.0 < executed_s < math.inf and 0.0 < predicted_s < math.inf):
            return False  # no profile, or no time passed: nothing to compare
        off = math.log(executed_s) - math.log(predicted_s)
        self._seen += 1
        self._log += _WEIGHT * min(max(off - self._log, -_FAR), _FAR)
        if self._seen < _STEPS:
            return False
        began = not self.on and abs(self._log) > _ON
        self.on = abs(self._log) > (_OFF if self.on else _ON)
        self.episodes += began
        return began
