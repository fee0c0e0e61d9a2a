"""At which replica is this request awaited? At the one that quoted it an SLO, or that refused it
and told it when to come back: what was promised holds there and nowhere else.

The front that passed the answer on remembers it: a quote by its token, a refusal by the bytes of
the body and the client's key, for a client that obeys sends the same ones.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from starlette.types import Message, Send

from scorpio.core.policies.scorpio.retry_after import GRACE, GRACE_S
from scorpio.fleet.exchange import REPLICA_HEADER, NotAnswered, Outgoing
from scorpio.server.quote.desk import VALID_S
from scorpio.server.request.slo_headers import QUOTE_HEADER

MOST: Final = 4096  # remembered; the oldest is forgotten first
MOST_ALIKE: Final = 64
_QUOTE: Final = QUOTE_HEADER.encode()
_KEYS: Final = (b"authorization", b"x-api-key")


class Awaited:
    """Of one front. now_s: any clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        # Requests that are alike are told one by one, and come back one by one.
        self._at: OrderedDict[bytes, deque[tuple[str, float]]] = OrderedDict()

    def refused(self, request: Outgoing, told: NotAnswered) -> None:
        """A client was given this refusal. Without a time to come back it may ask for what it was
        offered, at once."""
        wait_s = told.retry_after_s if math.isfinite(told.retry_after_s) else 0.0
        self._note(_sent(request), told.member, wait_s * (1 + GRACE) + GRACE_S)

    def quoted(self, answer: bytes, replica: str) -> None:
        """A client was given this answer to a question for a quote."""
        with suppress(ValueError, TypeError, KeyError, AttributeError):  # no quote
            token = json.loads(answer)["headers"][QUOTE_HEADER].encode()
            self._note(_digest(token), replica, VALID_S)

    def at(self, outgoing: Outgoing) -> str:
        """The replica's name, once; "" for none."""
        if not self._at:
            return ""
        quote = dict(outgoing.scope["headers"]).get(_QUOTE)
        return (self._take(_digest(quote)) if quote else "") or self._take(_sent(outgoing))

    def _take(self, key: bytes) -> str:
        kept = self._at.get(key)
        while kept:
            name, until_s = kept.popleft()
            if not kept:
                del self._at[key]
            if self._now_s() <= until_s:
                return name
        return ""

    def _note(self, key: bytes, replica: str, for_s: float) -> None:
        kept = self._at.setdefault(key, deque(maxlen=MOST_ALIKE))
        kept.append((replica, self._now_s() + for_s))
        self._at.move_to_end(key)
        if len(self._at) > MOST:
            self._at.popitem(last=False)


class QuoteListener:
    """Passes an answer on, and reads it on its way."""

    def __init__(self, send: Send, awaited: Awaited) -> None:
        self._send, self._awaited = send, awaited
        self._replica = ""
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """One part of the answer."""
        if message["type"] == "http.response.start":
            self._replica = dict(message["headers"]).get(REPLICA_HEADER, b"").decode("latin-1")
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._awaited.quoted(bytes(self._body), self._replica)
        await self._send(message)


def _sent(request: Outgoing) -> bytes:
    """The same for what a client sends again, and for none of another key's."""
    headers = dict(request.scope["headers"])
    return _digest(*(headers.get(name, b"") for name in _KEYS), request.body)


def _digest(*shown: bytes) -> bytes:
    made = blake2b(digest_size=16)
    for part in shown:
        made.update(len(part).to_bytes(8))
        made.update(part)
    return made.digest()
