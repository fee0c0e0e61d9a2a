"""What time is it? Virtual time: one object owns it, it only moves forward."""

from __future__ import annotations


class VirtualClock:
    """Seconds since the start of the run."""

    __slots__ = ("now_s",)

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def advance_to(self, when_s: float) -> None:
        """Move forward; a time in the past is a bug of the caller."""
        if when_s < self.now_s:
            raise ValueError(f"time runs backwards: {when_s} < {self.now_s}")
        self.now_s = when_s
