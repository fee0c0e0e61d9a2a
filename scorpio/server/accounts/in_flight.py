"""How much may be in this server at once? A slot and room for its body for each request.

Whatever a client can send without limit it will: every bound here is generous and on by default.
Within a limit nothing is decided; beyond it the answer is 429 `queue_full` (or 413 for one body).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Receive, Scope

from scorpio.engine.caps import spread_ms
from scorpio.server.shared import Shared

BETWEEN_PARTS_S: Final = 30.0  # of a body: a client that says nothing for so long is gone
LEAST_BYTES_PER_S: Final = 1024.0  # of a body that takes longer than that
MOST_BODY_S: Final = 600.0  # of one that the operator has not bounded


@dataclass(frozen=True, slots=True)
class Caps:
    """engine requests in flight, in all and of one API key; bytes of one body and of all held;
    seconds for one body to come."""

    requests: int
    per_key: int
    body_bytes: int
    held_bytes: int
    body_s: float = MOST_BODY_S


class QueueFullError(Exception):
    """No slot or no room is left."""


class OverQuotaError(QueueFullError):
    """Its own cap is reached, whatever room there is. `most`: that may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} requests of this tenant at once")
        self.most = most


class BodyTooLargeError(Exception):
    """One body is larger than any may be. `most_bytes` is what may be."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the body is larger than {most_bytes} bytes")


class BodyTimeoutError(Exception):
    """The client stopped in the middle of its body, or sends it too slowly."""


@dataclass(slots=True)
class Slot:
    """What one HTTP request takes. most: of its account, where that has a cap of its own."""

    account: str
    most: int | None = None
    requests: int = 0
    held_bytes: int = 0


@dataclass(slots=True)
class InFlight:
    """What is in this API process now. shared: with the other ones of its server, which count for
    caps on engine requests; bytes are of each process, as its memory is."""

    caps: Caps
    shared: Shared = field(default_factory=Shared)
    requests: int = 0
    held_bytes: int = 0
    by_account: Counter[str] = field(default_factory=Counter)
    turned_away: int = 0

    @contextmanager
    def slot(self, account: str, most: int | None = None) -> Iterator[Slot]:
        """A slot, empty at first, until the response is complete."""
        slot = Slot(account, most)
        try:
            yield slot
        finally:
            self.held_bytes -= slot.held_bytes
            self._count(account, -slot.requests)

    def most(self, slot: Slot) -> int:
        """Engine requests that its account may ever have in flight."""
        own = slot.most or self.caps.per_key
        return min(self.caps.requests, own) if slot.account else self.caps.requests

    def take(self, slot: Slot, requests: int) -> None:
        """`requests` in all for this slot. Raises QueueFullError or OverQuotaError, and takes
        nothing."""
        more = requests - slot.requests
        self._count(slot.account, more)  # before it is looked at: the others see it
        try:
            self._check(slot)
        except QueueFullError:
            self._count(slot.account, -more)
            raise
        slot.requests = requests

    def of_account(self, account: str) -> int:
        """Engine requests in flight, in all API processes."""
        return self.by_account[account] + int(self.shared.others(_name(account)))

    def _check(self, slot: Slot) -> None:
        theirs = self.of_account(slot.account)
        if slot.most is not None and theirs > slot.most:
            raise OverQuotaError(slot.most)
        own = slot.most or self.caps.per_key
        all_requests = self.requests + self.shared.others(_ALL)
        if all_requests > self.caps.requests or (slot.account and theirs > own):
            raise QueueFullError

    def _count(self, account: str, more: int) -> None:
        self.requests += more
        self.by_account[account] += more
        self.shared.put(_ALL, self.requests)
        self.shared.put(_name(account), self.by_account[account])
        if not self.by_account[account]:
            del self.by_account[account]

    def retry_after_ms(self) -> int:
        """When to come back, spread out: those turned away together must not return together."""
        self.turned_away += 1
        return spread_ms(self.turned_away)

    def hold(self, slot: Slot, count: int) -> None:
        """`count` more bytes of its body. Raises QueueFullError."""
        if self.held_bytes + count > self.caps.held_bytes:
            raise QueueFullError
        slot.held_bytes += count
        self.held_bytes += count


_ALL = "in_flight"


def _name(account: str) -> str:
    return f"{_ALL} {account}"


async def read_body(
    scope: Scope,
    receive: Receive,
    most_bytes: int,
    hold: Callable[[int], None] | None = None,
    most_s: float = MOST_BODY_S,
) -> bytes | None:
    """The whole request body; None when the client left before it was complete.

    hold: is told of each part's bytes. most_s: for all of it; and it has to come faster than
    LEAST_BYTES_PER_S, for a byte now and then holds a slot as well as a body does.

    Raises:
        BodyTooLargeError: before the first byte when the length is announced. BodyTimeoutError.
    """
    if _announced(scope) > most_bytes:
        raise BodyTooLargeError(most_bytes)
    parts: list[bytes] = []
    count, begun_s = 0, (loop := asyncio.get_running_loop()).time()
    while True:
        in_all_s = min(most_s, BETWEEN_PARTS_S + count / LEAST_BYTES_PER_S)
        try:
            async with asyncio.timeout_at(min(begun_s + in_all_s, loop.time() + BETWEEN_PARTS_S)):
                message = await receive()
        except TimeoutError:
            raise BodyTimeoutError from None
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        count += len(part)
        if count > most_bytes:
            raise BodyTooLargeError(most_bytes)
        if hold is not None:
            hold(len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0
