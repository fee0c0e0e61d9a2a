"""What do clients do when they are refused, or wait too long? In the open loop: nothing.

A client that is told when to come back comes back then; one that is told nothing does as OpenAI's
does (workloads/retries.py); one whose request can never be met, not at all. Its promises count from
the first time that it asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workloads.retries import MOST_TRIES


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """retries: how often a refused request is sent again, at most. give_up_s: a client that has no
    whole answer so long after it first asked leaves, and does not come back. clients: how many
    there are, each with one request at a time: a request is sent when the trace says so and a
    client is free (a closed loop); 0 = one for each request (the open loop)."""

    retries: int = 0
    give_up_s: float = math.inf
    clients: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.retries <= MOST_TRIES:
            raise ValueError(f"retries must be in [0, {MOST_TRIES}], got {self.retries}")
        if self.clients < 0:
            raise ValueError(f"clients must be >= 0, got {self.clients}")
        if not self.give_up_s > 0.0:
            raise ValueError(f"give_up_s must be > 0, got {self.give_up_s!r}")

    @property
    def follow(self) -> bool:
        """Does what is sent hang on the answers?"""
        return bool(self.retries or self.clients)
