"""How does a page stay up to date? Server-sent events, to a bounded number of listeners.

Each stream is asked for with the admin token like any other answer, lasts no longer than it should,
and ends when the server does: a page that wants more asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from starlette.types import Receive, Send

from scorpio.server.answers import Answer

PERIOD_S = 2.0  # an event, changed or not: it is the sign of life, too
SEND_S = 20.0  # for a client to take what is sent
_LOOK_S = 0.5  # the longest that an ending server waits for a stream
_HEADERS = ((b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"))
Ask = Callable[[], Awaitable[Answer]]


class Listeners:
    """most: at once. lasts_s: of one stream. over: True when the server ends."""

    def __init__(
        self, over: Callable[[], bool], lasts_s: float, period_s: float = PERIOD_S, most: int = 16
    ) -> None:
        self._over, self._lasts_s, self._period_s, self.most = over, lasts_s, period_s, most
        self.count = 0

    @property
    def full(self) -> bool:
        """No more of them."""
        return self.count >= self.most

    async def stream(
        self,
        first: Answer,
        ask: Ask,
        headers: list[tuple[bytes, bytes]],
        receive: Receive,
        send: Send,
    ) -> None:
        """From an answer that is 200 until one is not, the client leaves, or it is time."""
        with self._counted():
            left = asyncio.ensure_future(_has_left(receive))
            try:
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [*_HEADERS, *headers],
                    }
                )
                with contextlib.suppress(TimeoutError):  # it does not read: enough
                    await self._events(first, ask, left, send)
            finally:
                left.cancel()

    async def _events(
        self, answer: Answer, ask: Ask, left: asyncio.Future[None], send: Send
    ) -> None:
        clock = asyncio.get_running_loop().time
        end_s = clock() + self._lasts_s
        while answer.status == 200:
            await _write(send, b"event: status\ndata: " + answer.body + b"\n\n")
            due_s = clock() + self._period_s
            while (rest_s := due_s - clock()) > 0 and not self._over():
                await asyncio.wait((left,), timeout=min(rest_s, _LOOK_S))
                if left.done():
                    return
            if self._over() or clock() >= end_s:
                break
            answer = await ask()
        await _write(send, b"", more=False)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


async def _write(send: Send, body: bytes, more: bool = True) -> None:
    message = {"type": "http.response.body", "body": body, "more_body": more}
    await asyncio.wait_for(send(message), SEND_S)


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
