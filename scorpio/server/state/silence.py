"""For how long has the engine said nothing although it has work?

Counted in looks of at most a second each, so time in which this process itself stood still (a
suspended machine, a debugger) is not taken for the engine's silence.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SILENCE_S = 2.0  # shorter ones mean nothing: a step may take that long
_SCALE = 3.0  # so many times the longest silence seen lately means something
_FORGET = 0.9  # per sign of life
_LONGEST_LOOK_S = 1.0


@dataclass(slots=True)
class Silence:
    """silent_s: the present silence; longest_s: of those that have ended, fading."""

    silent_s: float = 0.0
    longest_s: float = 0.0
    _sign: object = None
    _looked_s: float | None = None

    def look(self, now_s: float, busy: bool, sign: object) -> None:
        """busy: requests are in the engine; sign: differs when the engine has said something."""
        passed_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if busy and sign == self._sign:
            self.silent_s += min(max(passed_s, 0.0), _LONGEST_LOOK_S)
            return
        if busy:
            self.longest_s = max(self.silent_s, self.longest_s * _FORGET)
        self._sign, self.silent_s = sign, 0.0

    def excuse(self) -> None:
        """The silence had a reason (the engine is paused)."""
        self.silent_s = 0.0

    def frozen(self, stall_s: float) -> bool:
        """True when this silence is much longer than this engine's usual ones."""
        usual_s = max(LEAST_SILENCE_S, _SCALE * self.longest_s)
        return self.silent_s >= min(usual_s, stall_s)
