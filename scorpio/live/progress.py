"""What does the user see while something takes long? Lines on stderr, one bar at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

_EVERY_S = 15.0


def say(line: str) -> None:
    """One line for the user; stdout stays for the answer."""
    print(f"scorpio: {line}", file=sys.stderr, flush=True)


def every_quarter_minute(what: str) -> Callable[[float], None]:
    """A callback for seconds waited: speaks every 15 s."""
    spoken = 0

    def tell(waited_s: float) -> None:
        nonlocal spoken
        if waited_s >= (spoken + 1) * _EVERY_S:
            spoken = int(waited_s / _EVERY_S)
            say(f"{what}: {waited_s:.0f} s")

    return tell


class Agenda:
    """What is done now, and how long does all of it still take? One line as each part begins."""

    def __init__(self, parts: Sequence[tuple[str, float]]) -> None:
        """parts: what, and about how many seconds it takes, in their order."""
        self._left = list(parts)
        self._of = len(self._left)

    def begin(self) -> None:
        """The next part begins."""
        seconds = sum(seconds for _, seconds in self._left)
        what, _ = self._left.pop(0)
        number = self._of - len(self._left)
        say(f"{number} of {self._of}: {what}; about {_for_people(seconds)} to go")


def _for_people(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.0f} min"


def share_done(what: str) -> Callable[[str, float], None]:
    """A callback for (what now, share done): one line per point."""
    start_s = time.monotonic()

    def tell(now: str, share: float) -> None:
        say(f"{what} {share:4.0%} after {time.monotonic() - start_s:3.0f} s: {now}")

    return tell
