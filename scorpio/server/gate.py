"""When may the client see the first byte? Not before it is known that there is no refusal.

vLLM sends 200 before the engine has accepted a stream. The gate holds what vLLM sends until the
request's ticket decides: refused -> our 429 goes out instead; first token, an error status or a
complete body -> everything held goes out in order, unchanged, and from then on each message is
passed on at once. Nothing is ever replaced after the gate has opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.types import Message, Send

from scorpio.core.wire import RejectionNotice
from scorpio.server.answers import Answer, RawHeaders, error_answer, send_answer
from scorpio.server.ticket import Ticket

_ERROR_EVENTS = (b'data: {"error"', b"event: error\ndata: ")
_OK = 200


class ResponseGate:
    """A `send` for vLLM that holds the response until the ticket decides.

    refuse: builds the answer to a refusal. extra_headers: added to a response that passes,
    asked when it does. anthropic: error envelope of this endpoint.
    """

    def __init__(
        self,
        send: Send,
        ticket: Ticket,
        refuse: Callable[[RejectionNotice], Answer],
        extra_headers: Callable[[], RawHeaders],
        anthropic: bool,
    ) -> None:
        self._send = send
        self._ticket = ticket
        self._refuse = refuse
        self._extra = extra_headers
        self._anthropic = anthropic
        self._held: list[Message] = []
        self._open = False
        self._answered = False

    async def __call__(self, message: Message) -> None:
        if self._open:
            await self._send(message)
        elif not self._answered:
            self._held.append(message)
            await self._decide(message)

    async def finish(self) -> None:
        """The application has returned: let out whatever is still held."""
        if not self._open and not self._answered:
            if self._ticket.refusal is not None:
                await self._answer(self._refuse(self._ticket.refusal))
            else:
                await self._release()

    async def failed(self) -> bool:
        """The application raised. True when a refusal explains it and was sent instead."""
        refusal = None if self._open or self._answered else self._ticket.refusal
        if refusal is not None:
            await self._answer(self._refuse(refusal))
        return self._answered

    async def _decide(self, message: Message) -> None:
        if (refusal := self._ticket.refusal) is not None:
            await self._answer(self._refuse(refusal))
        elif self._ticket.tokens:
            await self._release()
        elif message["type"] == "http.response.start":
            if message["status"] != _OK:
                await self._release()
        elif (error := _stream_error(message.get("body", b""), self._anthropic)) is not None:
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
