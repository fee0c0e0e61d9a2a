"""What went wrong in here, how often, and is it too much? Kinds of errors, and a breaker.

Errors of the policy make their step stock, too many of them for a while switch it off for a while.
Errors of monitoring (a full disk, a counter) change no decision; they are counted apart.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vllm.logger import init_logger

logger = init_logger("vllm.scorpio")
POLICY, MONITORING, SHADOW = "policy", "monitoring", "shadow"
_MOST_KINDS = 64
_WHAT = {
    POLICY: "Policy failed; such steps are stock FCFS",
    MONITORING: "Monitoring failed; no decision depends on it",
    SHADOW: "The shadow failed; it decides nothing",
}

_OPENED = "Failed %d times within %.0f s: done without for %.0f s"


@dataclass(slots=True)
class _Kind:
    count: int
    first_unix_s: float
    last_unix_s: float


class Faults:
    """Since start. `wall_s`: the wall clock, for people."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._kinds: dict[str, _Kind] = {}
        self.counts = {POLICY: 0, MONITORING: 0, SHADOW: 0}

    def note(self, part: str, error: Exception) -> None:
        """One more; logged when it is the first of its kind."""
        self.counts[part] += 1
        name, unix_s = _name(part, error), self._wall_s()
        known = self._kinds.get(name)
        if known is not None:
            known.count += 1
            known.last_unix_s = unix_s
        elif len(self._kinds) < _MOST_KINDS:
            self._kinds[name] = _Kind(1, unix_s, unix_s)
            logger.exception("%s (logged once for each kind)", _WHAT[part], exc_info=error)

    def state(self) -> dict[str, object]:
        """For status.json."""
        return {
            "monitoring_errors": self.counts[MONITORING],
            "faults": {
                name: {
                    "count": kind.count,
                    "first_unix_s": round(kind.first_unix_s, 3),
                    "last_unix_s": round(kind.last_unix_s, 3),
                }
                for name, kind in self._kinds.items()
            },
        }


class Breaker:
    """Opens after `limit` failures within `window_s`, and closes after `quiet_s`."""

    def __init__(self, limit: int, window_s: float, quiet_s: float) -> None:
        self._limit, self._window_s, self._quiet_s = limit, window_s, quiet_s
        self._failed_s: deque[float] = deque(maxlen=limit)
        self._until_s = float("-inf")
        self.opened = 0

    def failed(self, now_s: float) -> None:
        """One more failure."""
        self._failed_s.append(now_s)
        failures = len(self._failed_s)
        if failures < self._limit or now_s - self._failed_s[0] > self._window_s:
            return
        self._until_s = now_s + self._quiet_s
        self._failed_s.clear()
        self.opened += 1
        logger.error(_OPENED, failures, self._window_s, self._quiet_s)

    def is_open(self, now_s: float) -> bool:
        """Is the policy off?"""
        return now_s < self._until_s


def _name(part: str, error: Exception) -> str:
    """Type and place, never the text: that may hold what a client sent."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        kind += f" {errno.errorcode.get(error.errno, error.errno)}"
    place = error.__traceback__  # walked: `traceback` reads the source of each frame
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{part}: {kind}" + (f" in {place.tb_frame.f_code.co_name}" if place else "")
