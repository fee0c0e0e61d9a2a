"""Which requests are on their way through this process?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from scorpio.server.request.gate import ResponseGate
from scorpio.server.request.ticket import Heard


@dataclass(slots=True)
class Flights:
    """calls: HTTP requests in work, mere look-ups (GET) not counted. gates: those of them that
    generate. heard: what the engine has said. draining: the server takes no new ones."""

    calls: int = 0
    gates: set[ResponseGate] = field(default_factory=set)
    heard: Heard = field(default_factory=Heard)
    draining: bool = False

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """One HTTP request, from its first byte to the last of its answer."""
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    @contextlib.contextmanager
    def generation(self, gate: ResponseGate) -> Iterator[None]:
        """One generating request."""
        self.gates.add(gate)
        try:
            yield
        finally:
            self.gates.discard(gate)
