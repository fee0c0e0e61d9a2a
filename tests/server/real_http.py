"""How does a test reach our middleware through a real socket? uvicorn, as vLLM starts it, with a
small application behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from scorpio.server.middleware import ScorpioMiddleware
from tests.server.fake_vllm import FakeServer


class _NoSignals(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the server ends the connection."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def head(self) -> bytes:
        """Status line and headers."""
        return await self.reader.readuntil(b"\r\n\r\n")


@dataclass(frozen=True, slots=True)
class RealHttp:
    """port: of the server. application: behind the middleware."""

    port: int
    application: FakeServer
    middleware: ScorpioMiddleware
    http_server: uvicorn.Server

    @contextlib.asynccontextmanager
    async def wire(self, **how: Any) -> AsyncIterator[Wire]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **how)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def real_http(application: FakeServer, http: str, **more: Any) -> AsyncIterator[RealHttp]:
    """http: "httptools" or "h11". more: of uvicorn's options."""
    middleware = ScorpioMiddleware(_with_lifespan(application))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware({**scope, "app": application}, receive, send)

    config = uvicorn.Config(app, http=http, log_config=None, lifespan="on", **more)
    config.load()
    server = application.state.server = _NoSignals(config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield RealHttp(port, application, middleware, server)
        finally:
            config.timeout_graceful_shutdown = 1
            server.should_exit = True
            await running


def _with_lifespan(application: FakeServer) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await application(scope, receive, send)
            return
        for kind in ("startup", "shutdown"):
            message: Message = await receive()
            assert message["type"] == f"lifespan.{kind}"
            await send({"type": f"lifespan.{kind}.complete"})

    return app
