"""Is the policy on? Off for its errors, for what it costs, for wrong forecasts, or by hand.

While it is off every step is stock vLLM's. By hand it is off for as long as a file is there: an
admin act and a signal write that file, and so may people. The other three are breakers: off for
`breaker_quiet_s`, then it is asked again.
"""

from __future__ import annotations

import math
import os
from collections import deque

from vllm.logger import init_logger

from scorpio.channel import BREAKERS, BY_HAND, ERRORS, FORECASTS, OVERRUN
from scorpio.engine.record.cost_share import CostShare
from scorpio.engine.record.faults import Breaker
from scorpio.settings import ScorpioSettings

logger = init_logger("vllm.scorpio")
LOOK_S = 0.05  # between two looks at the file, as for a switch of the policy
STEPS = 256  # of which the cost is a share
TOLD = 100  # requests whose forecasts are judged together

_OVERRUN = "planning takes %.1f %% of the time of a step (most_overhead %.1f %%): stock for %.0f s"
_WRONG = (
    "%d of the last %d requests that were forecast to be on time took more than twice their TTFT "
    "SLO: stock for %.0f s"
)


class PolicyOff:
    """All times are of the engine's clock, in seconds."""

    def __init__(self, settings: ScorpioSettings) -> None:
        self._quiet_s = settings.breaker_quiet_s
        self._errors = Breaker(settings.breaker_limit, settings.breaker_window_s, self._quiet_s)
        self._most_overhead = settings.most_overhead
        self._most_wrong = settings.most_wrong_forecasts
        self._file = settings.off_path()
        self._by_hand = False
        self._looked_s = -math.inf
        self._until_s = dict.fromkeys((OVERRUN, FORECASTS), -math.inf)
        self._opened = dict.fromkeys((OVERRUN, FORECASTS), 0)
        self._planning = CostShare(STEPS)
        self._wrong: deque[bool] = deque(maxlen=TOLD)

    def why(self, now_s: float) -> str:
        """One of BREAKERS or BY_HAND; "" while it is on."""
        if self._by_hand:
            return BY_HAND
        if self._errors.is_open(now_s):
            return ERRORS
        for why, until_s in self._until_s.items():
            if now_s < until_s:
                return why
        return ""

    def look(self, now_s: float, idle: bool) -> bool:
        """Is the file there? At once when nothing runs. True when that has changed."""
        if self._file is None or not (idle or now_s - self._looked_s >= LOOK_S):
            return False
        self._looked_s = now_s
        before, self._by_hand = self._by_hand, os.path.exists(self._file)
        if self._by_hand is before:
            return False
        logger.warning(
            "The policy is %s by hand (%s)", "off" if self._by_hand else "on", self._file
        )
        return True

    def failed(self, now_s: float) -> None:
        """One error of the policy."""
        self._errors.failed(now_s)

    def stepped(self, planning_s: float, step_s: float, now_s: float) -> None:
        """A step took step_s, and planning one planning_s."""
        if self.why(now_s):
            return
        self._planning.spent(planning_s)
        if self._planning.stepped(step_s) and self._planning.share > self._most_overhead > 0.0:
            self._open(OVERRUN, now_s)
            took, most = self._planning.share * 100, self._most_overhead * 100
            logger.error(_OVERRUN, took, most, self._quiet_s)

    def forecast_came(self, forecast_s: float, came_s: float, slo_s: float, now_s: float) -> None:
        """The TTFT of a request with this TTFT SLO, as forecast and as it came. One that was
        forecast to be late says nothing, whatever SLO its client has chosen."""
        if not (forecast_s <= slo_s < math.inf) or self.why(now_s):
            return
        self._wrong.append(came_s > 2.0 * slo_s)
        wrong = sum(self._wrong)
        if len(self._wrong) == TOLD and wrong > self._most_wrong * TOLD:
            self._wrong.clear()
            self._open(FORECASTS, now_s)
            logger.error(_WRONG, wrong, TOLD, self._quiet_s)

    def restart(self) -> None:
        """Another policy: it is judged from here on."""
        self._planning.restart()
        self._wrong.clear()

    def state(self, now_s: float) -> dict[str, object]:
        """For status.json."""
        why = self.why(now_s)
        opened = {ERRORS: self._errors.opened} | self._opened
        return {
            "policy_off": why,
            "breaker_open": why in BREAKERS,
            "breaker_opened": sum(opened.values()),
            "breakers_opened": opened,
        }

    def _open(self, why: str, now_s: float) -> None:
        self._until_s[why] = now_s + self._quiet_s
        self._opened[why] += 1
