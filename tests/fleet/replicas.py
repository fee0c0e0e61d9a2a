"""Servers that speak as replicas do, on real sockets: each test says what becomes of a request.

They stand for the network and for what goes wrong in it, not for vLLM: what a real replica answers
is tested with real ones (test_live_answers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from scorpio.core.routing.load import MIDDLING, Replica, ReplicaLoad
from scorpio.fleet.front import Front
from scorpio.fleet.registry import Address
from scorpio.fleet.settings import FleetSettings
from scorpio.live.host.process import free_port

Handler = Callable[["FakeReplica", web.Request], Awaitable[web.StreamResponse]]
EVENT = {"content-type": "text/event-stream"}


async def answers(replica: FakeReplica, _: web.Request) -> web.StreamResponse:
    """All is well."""
    return web.json_response({"by": replica.name})


def refuses(reason: str, retry_ms: int | None) -> Handler:
    """429, as the middleware says it."""

    async def handler(replica: FakeReplica, _: web.Request) -> web.StreamResponse:
        headers = {"x-scorpio-reject-reason": reason}
        if retry_ms is not None:
            headers |= {"retry-after-ms": str(retry_ms)}
        return web.json_response({"error": {"by": replica.name}}, status=429, headers=headers)

    return handler


def says(status: int, **headers: str) -> Handler:
    """An error."""

    async def handler(replica: FakeReplica, _: web.Request) -> web.StreamResponse:
        content = {"error": {"by": replica.name}}
        return web.json_response(content, status=status, headers=headers)

    return handler


async def hangs_up(_: FakeReplica, request: web.Request) -> web.StreamResponse:
    """The connection breaks without a byte."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(10)
    raise AssertionError


async def says_nothing(replica: FakeReplica, _: web.Request) -> web.StreamResponse:
    """Until the client leaves."""
    try:
        await asyncio.sleep(60)
    finally:
        replica.left += 1
    raise AssertionError


def streams(events: int, then: str = "done", every_s: float = 0.01) -> Handler:
    """then: done, breaks or hangs."""

    async def handler(replica: FakeReplica, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=EVENT)
        await response.prepare(request)
        try:
            for number in range(events):
                await response.write(b'data: {"n": %d}\n\n' % number)
                await asyncio.sleep(every_s)
            if then == "breaks":
                assert request.transport is not None
                request.transport.abort()
                return response
            if then == "hangs":
                await asyncio.sleep(60)
        except (asyncio.CancelledError, ConnectionError):
            replica.left += 1
            raise
        await response.write(b"data: [DONE]\n\n")
        return response

    return handler


@dataclass
class FakeReplica:
    """handler: of generating requests. seen: (method, path, headers, body). left: clients that
    did not wait. state: what it says of its health; mute: it does not answer questions. fallback:
    it is of that deployment. old: it does not know what a trial is."""

    name: str
    handler: Handler = answers
    state: str = "ok"
    load: ReplicaLoad = field(default_factory=lambda: ReplicaLoad(0.0))
    facts: Replica = field(default_factory=lambda: Replica(MIDDLING, 2048, 256, 100_000))
    mute: bool = False
    terms: str = ""
    fallback: bool = False
    old: bool = False
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    left: int = 0
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_get("/scorpio/load", self._load)
        app.router.add_get("/scorpio/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_route("*", "/{path:.*}", self._other)
        return app

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.seen]

    async def _load(self, _: web.Request) -> web.StreamResponse:
        if self.mute:
            await asyncio.sleep(60)
        engine = {"age_s": 0.0, "replica": self.facts.to_dict(), "load": self.load.to_dict()}
        told = {"state": self.state, "engines": [engine]}
        return web.json_response(told if self.old else told | {"terms": self.terms})

    async def _status(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"policy": "scorpio", "running": 2, "policies": ["a", "b"]})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        text = '# HELP x Text.\n# TYPE x counter\nx{a="1"} 2.0\ny 3.0\n'
        return web.Response(text=text)

    async def _other(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.raw_path, headers, await request.read()))
        return await self.handler(self, request)


@dataclass
class Fleet:
    """A front on its own socket, and a client."""

    url: str
    front: Front
    replicas: Sequence[FakeReplica]
    session: ClientSession
    listed: dict[str, Address]

    async def post(
        self, path: str = "/v1/completions", body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """One request that is not a stream: status, headers in lower case, JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"prompt": "x", "max_tokens": 4} if body is None else body
        async with self.session.post(self.url + path, json=given, headers=sent) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, told, await answer.json()

    async def stream(self) -> tuple[int, bytes]:
        """A stream to its end."""
        asked = {"prompt": "x", "stream": True}
        async with self.session.post(self.url + "/v1/completions", json=asked) as answer:
            return answer.status, await answer.read()

    async def get(self, path: str) -> tuple[int, Any]:
        """JSON, or text."""
        async with self.session.get(self.url + path) as answer:
            text = answer.content_type.startswith("text/")
            return answer.status, await (answer.text() if text else answer.json())

    async def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait for something that takes a moment."""
        async with asyncio.timeout(within_s):
            while not true():
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def fleet_of(*replicas: FakeReplica, **settings: Any) -> AsyncIterator[Fleet]:
    """All of them met, unless they are mute."""
    async with contextlib.AsyncExitStack() as stack:
        listed: dict[str, Address] = {}
        for replica in replicas:
            server = TestServer(replica.app())
            await server.start_server(shutdown_timeout=0.1)
            stack.push_async_callback(server.close)
            replica.url = f"http://{server.host}:{server.port}"
            listed[replica.name] = Address(replica.url, replica.fallback)

        async def known() -> dict[str, Address]:
            return listed

        front = Front(FleetSettings(model="tiny", **settings), known)
        port = free_port()
        config = uvicorn.Config(front, port=port, log_level="error", lifespan="on", ws="none")
        server_of_front = uvicorn.Server(config)
        running = asyncio.create_task(server_of_front.serve())
        session = await stack.enter_async_context(ClientSession())
        fleet = Fleet(f"http://127.0.0.1:{port}", front, replicas, session, listed)
        try:
            await fleet.until(lambda: server_of_front.started)
            able = [r for r in replicas if not r.mute and r.state == "ok"]
            await fleet.until(lambda: len(front.members) == len(able))
            yield fleet
        finally:
            server_of_front.should_exit = True
            await running
