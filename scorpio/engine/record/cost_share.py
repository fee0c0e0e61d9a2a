"""What share of the steps' time does something of ours take? Looked at after so many steps."""

from __future__ import annotations


class CostShare:
    """share: of the last `steps` steps that were looked at together; 0 before."""

    def __init__(self, steps: int) -> None:
        self._most = steps
        self.share = 0.0
        self.restart()

    def spent(self, seconds: float) -> None:
        """So much was taken."""
        self._spent_s += seconds

    def stepped(self, seconds: float) -> bool:
        """One more step came back. True: `share` is new."""
        self._steps += 1
        self._steps_s += seconds
        if self._steps < self._most:
            return False
        self.share = self._spent_s / self._steps_s if self._steps_s > 0.0 else 0.0
        self.restart()
        return True

    def restart(self) -> None:
        """It is counted from here on."""
        self._steps, self._spent_s, self._steps_s = 0, 0.0, 0.0
