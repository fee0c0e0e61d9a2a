"""When may the client see the first byte? Not before it is known that there is no refusal.

vLLM sends 200 before the engine has accepted a stream. The gate holds what vLLM sends until the
request's ticket decides: refused -> our 429 goes out instead; first token, an error status or a
complete body -> everything held goes out in order, unchanged, and from then on each message is
passed on at once. A stream that no policy may refuse is not held at all: proxies want headers and
keep-alives. Should the engine still turn it away (its queue is full), it ends with an error event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.types import Message, Send

from scorpio.core.wire import RejectionNotice
from scorpio.server.answers import Answer, RawHeaders, error_answer, error_event, send_answer
from scorpio.server.request.ticket import Ticket

_ERROR_EVENTS = (b'data: {"error"', b"event: error\ndata: ")
_COMMENT = b":"  # an SSE keep-alive
_MOST_HELD = 4096  # messages; more than that before a first token is no refusal to wait for
_OK = 200


class ResponseGate:
    """A `send` for vLLM that holds the response until the ticket decides.

    refuse: builds the answer to a refusal. extra_headers: added to a response that passes,
    asked when it does. anthropic: error envelope of this endpoint. may_refuse: False = nothing but
    a full queue can turn this request away.
    """

    def __init__(
        self,
        send: Send,
        ticket: Ticket,
        refuse: Callable[[RejectionNotice], Answer],
        extra_headers: Callable[[], RawHeaders],
        anthropic: bool,
        may_refuse: bool = True,
    ) -> None:
        self._send = send
        self.ticket = ticket
        self._refuse = refuse
        self._extra = extra_headers
        self.anthropic = anthropic
        self._may_refuse = may_refuse
        self._held: list[Message] = []
        self._open = False
        self._answered = False
        self._is_stream = False
        self.begun_s = time.monotonic()

    @property
    def ended(self) -> bool:
        """True once an answer of our own is out, or vLLM's is and nothing can end it early."""
        return self._answered or (self._open and not self._is_stream)

    async def __call__(self, message: Message) -> None:
        if self._answered:
            return
        if not self._open:
            self._held.append(message)
            await self._decide(message)
        elif not await self._turned_away():
            await self._send(message)

    async def end(self, answer: Answer) -> None:
        """Answer now, whatever vLLM does: it says nothing while its engine hangs. A stream that has
        begun ends with the answer as an error event. What vLLM sends later is dropped."""
        if not self.ended:
            await self._tell(answer)

    async def finish(self) -> None:
        """The application has returned: let out whatever is still held."""
        if not self._answered and not self._open and not await self._turned_away():
            await self._release()

    async def failed(self) -> bool:
        """The application raised. True when a refusal explains it and was sent instead."""
        return self._answered or await self._turned_away()

    async def _turned_away(self) -> bool:
        """Tell a refusal, if there is one: as the answer, or as the end of a stream."""
        if (refusal := self.ticket.refusal) is None:
            return False
        await self._tell(self._refuse(refusal))
        return True

    async def _tell(self, answer: Answer) -> None:
        if self._open:
            self._answered = True
            event = error_event(answer, self.anthropic)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            await self._answer(answer)

    async def _decide(self, message: Message) -> None:
        if await self._turned_away():
            return
        if self.ticket.tokens or len(self._held) > _MOST_HELD:
            await self._release()
        elif message["type"] == "http.response.start":
            self._is_stream = _is_event_stream(message)
            if message["status"] != _OK or (self._is_stream and not self._may_refuse):
                await self._release()
        elif self._is_stream and message.get("body", b"").startswith(_COMMENT):
            self._held.pop()  # it says nothing but "still there", and would pile up
        elif (error := _stream_error(message.get("body", b""), self.anthropic)) is not None:
            await self._answer(error)
        elif not message.get("more_body", False):
            await self._release()

    async def _answer(self, answer: Answer) -> None:
        self._answered = True
        start = self._held[0] if self._held else {}
        self._held.clear()
        await send_answer(self._send, answer, keep=list(start.get("headers", [])))

    async def _release(self) -> None:
        self._open = True
        held, self._held = self._held, []
        for message in held:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._extra()]}
            await self._send(message)


def _is_event_stream(start: Message) -> bool:
    kinds = (v for k, v in start.get("headers", []) if k.lower() == b"content-type")
    return any(kind.startswith(b"text/event-stream") for kind in kinds)


def _stream_error(body: bytes, anthropic: bool) -> Answer | None:
    """An SSE error event before any token: no token was promised yet, so it can still be an HTTP
    error. (Load tools count a 200 that ends in an error event as a success.)"""
    if not body.startswith(_ERROR_EVENTS):
        return None
    try:
        error: Any = json.loads(body[body.index(b"{") :].split(b"\n", 1)[0])["error"]
        status = error.get("code", HTTPStatus.INTERNAL_SERVER_ERROR.value)
        if not isinstance(status, int) or not 400 <= status <= 599:
            return None
        return error_answer(
            status,
            str(error["message"]),
            kind=str(error["type"]),
            param=error.get("param"),
            anthropic=anthropic,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
