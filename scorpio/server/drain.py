"""What happens to the requests when the server is told to stop? They are finished first.

SIGTERM or SIGINT: new requests are told 503, those in work go on until their last byte, then the
engine and the server end (exit code 0). vLLM's own `--shutdown-timeout` says for how long; what is
left by then is cut. A second signal cuts at once. Of several API processes each drains, when their
parent tells it to (SIGTERM): Ctrl-C, which a terminal sends to all, is the parent's alone.

vLLM's drain stops the tokeniser and the engine first and looks after the responses later, so
requests in between fail and a response may lose its end. Here the engine stays whole until the
last response is out.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial
from typing import Any

from scorpio.server.answers import Answer
from scorpio.server.context import ServerContext
from scorpio.server.state.engine_watch import END_S, end_requests, unavailable
from scorpio.server.state.metrics import count_answered
from scorpio.server.vllm_api import ENGINE_S

logger = logging.getLogger("vllm.scorpio")
DRAINING = "draining"
_POLL_S = 0.05


class Drain:
    """At most one per server. uvicorn_server: vLLM's, as in `app.state.server`."""

    def __init__(self, server: ServerContext, uvicorn_server: Any, timeout_s: float) -> None:
        self._server = server
        self._uvicorn = uvicorn_server
        self._timeout_s = timeout_s
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take_signals(self) -> None:
        """Takes the place of vLLM's handlers."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.begin)
        alone = self._server.shared.count == 1
        loop.add_signal_handler(signal.SIGINT, self.begin if alone else _pass)

    def begin(self) -> None:
        """The first signal begins it, any further one ends the patience."""
        if self._task is not None:
            self._hurry.set()
            return
        flights = self._server.flights
        flights.draining = True
        logger.info("Scorpio: draining %d requests, at most %g s", flights.calls, self._timeout_s)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            if not await self._emptied(self._timeout_s):
                await self._cut()
                self._hurry.clear()
                await self._emptied(END_S)
            stop = partial(self._server.engine.shutdown, timeout=ENGINE_S)
            await asyncio.get_running_loop().run_in_executor(None, stop)
        finally:
            # Clients that do not read their last bytes must not keep the process.
            self._uvicorn.config.timeout_graceful_shutdown = END_S
            self._uvicorn.should_exit = True
            logger.info("Scorpio: drained, %d requests left", self._server.flights.calls)

    async def _emptied(self, patience_s: float) -> bool:
        """True when nothing is in work any more, False when the time or the patience is up."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + patience_s
        while self._server.flights.calls and loop.time() < end_s and not self._hurry.is_set():
            await asyncio.sleep(_POLL_S)
        return not self._server.flights.calls

    async def _cut(self) -> None:
        gates = list(self._server.flights.gates)
        logger.warning("Scorpio: cutting %d requests that did not end in time", len(gates))
        answer = partial(unavailable, "the server is shutting down", DRAINING)
        await end_requests(self._server, gates, answer)


def _pass() -> None:
    """It is not for this process."""


def draining_answer(server: ServerContext) -> Answer:
    """To a new request."""
    count_answered(server, 503, DRAINING)
    answer = unavailable("the server is shutting down: ask another one", DRAINING)
    # The connection would be refused next time; a client that opens a new one finds another server.
    return Answer(answer.status, answer.body, {**answer.headers, "connection": "close"})
