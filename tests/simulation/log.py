"""What happened? One line an event; two runs of a seed have the same digest."""

from __future__ import annotations

import hashlib

from scorpio.twin.engine.clock import VirtualClock


class Log:
    """`lines` only where they are to be kept."""

    def __init__(self, clock: VirtualClock, keep: bool) -> None:
        self.lines: list[str] | None = [] if keep else None
        self._clock = clock
        self._digest = hashlib.blake2b(digest_size=16)

    def __call__(self, line: str) -> None:
        """One more event, now."""
        line = f"{self._clock.now_s!r} {line}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """Of all events so far."""
        return self._digest.hexdigest()
