"""Which promises are checked, by number (docs/simulation.md)? A broken one stops the run."""

from __future__ import annotations

import re
from collections import Counter

from scorpio.twin.engine.ledger import InvariantViolation

# Faults that are known and being mended: counted, and the run goes on. By what the violation says.
# Each line goes with the mending of its fault.
KNOWN: dict[str, str] = {}


def is_known(violation: str) -> str:
    """The line of KNOWN that it falls under, or ""."""
    return next((pattern for pattern in KNOWN if re.match(pattern, violation)), "")


class Promises:
    """`known` counts what was broken and is on the list of known faults."""

    def __init__(self) -> None:
        self.known: Counter[str] = Counter()

    def require(self, kept: bool, number: int, message: str) -> None:
        """Raises InvariantViolation unless kept, or known."""
        if kept:
            return
        violation = f"{number}: {message}"
        known = is_known(violation)
        if not known:
            raise InvariantViolation(violation)
        self.known[known] += 1
