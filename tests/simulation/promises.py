"""Which promises are checked, by number (docs/simulation.md)? A broken one stops the run."""

from __future__ import annotations

from collections import Counter

from scorpio.twin.ledger import InvariantViolation

# Faults that are known and being mended: counted, and the run goes on.
# Each line goes with the mending of its fault.
KNOWN: dict[int, str] = {
    8: "a plan skips the only decode that can run, while another awaits its last token",
    30: "a plan spends the step on requests that the engine will not start",
    32: "requests without an SLO are refused after patience_s; choices one by one",
}


class Promises:
    """`known` counts what was broken and is on the list of known faults."""

    def __init__(self) -> None:
        self.known: Counter[int] = Counter()

    def require(self, kept: bool, number: int, message: str) -> None:
        """Raises InvariantViolation unless kept, or known."""
        if kept:
            return
        if number not in KNOWN:
            raise InvariantViolation(f"{number}: {message}")
        self.known[number] += 1
