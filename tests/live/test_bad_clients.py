"""Do clients that behave badly on the wire harm the others? Thousands idle, slow, or gone."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from tests.engine_server import ENGINE_MARKS, MODEL, EngineServer
from tests.fuzz.leaks import leaks
from tests.soak.processes import held_by

pytestmark = ENGINE_MARKS
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
IDLE = 10_000
LONG = {"model": MODEL, "prompt": "stay", "max_tokens": 300, "ignore_eos": True, "stream": True}


def address(server: EngineServer) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


def head(length: int) -> bytes:
    lines = ("POST /v1/completions HTTP/1.1", "host: x", "content-type: application/json")
    return "\r\n".join((*lines, f"content-length: {length}", "", "")).encode()


def whole(body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    return head(len(raw)) + raw


async def served(server: EngineServer) -> None:
    """An ordinary client is served as ever."""
    body = {"model": MODEL, "prompt": "a", "max_tokens": 2}
    code, _, raw = await asyncio.to_thread(server.call, "POST", "/v1/completions", body)
    assert code == 200, raw


async def close_all(pairs: Iterable[Pair]) -> None:
    for _, writer in pairs:
        writer.close()
    await asyncio.sleep(0)


@asynccontextmanager
async def connections(server: EngineServer, count: int) -> AsyncIterator[list[Pair]]:
    """So many open connections, made in portions that the listen queue can take."""
    pairs: list[Pair] = []
    try:
        while len(pairs) < count:
            some = min(200, count - len(pairs))
            opened = (asyncio.open_connection(*address(server)) for _ in range(some))
            pairs += await asyncio.gather(*opened)
        yield pairs
    finally:
        await close_all(pairs)


async def test_idle_connections(engine_server: EngineServer) -> None:
    """As many as this process may open, up to ten thousand."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(IDLE, most - 1000)
    before = held_by(engine_server.process.pid).descriptors
    async with connections(engine_server, count) as pairs:
        assert len(pairs) == count

        def accepted() -> bool:
            return held_by(engine_server.process.pid).descriptors >= count

        await asyncio.to_thread(engine_server.wait_for, accepted, "connections to be accepted")
        await served(engine_server)

    def closed() -> bool:
        return held_by(engine_server.process.pid).descriptors < before + 100

    await asyncio.to_thread(engine_server.wait_for, closed, "idle connections to be closed")
    assert await leaks(engine_server) == []


async def test_bodies_that_never_end(engine_server: EngineServer) -> None:
    """300 clients announce a body and send it byte by byte; one of them does end, and is served."""
    raw = whole({"model": MODEL, "prompt": "slow", "max_tokens": 2})
    async with connections(engine_server, 300) as pairs:
        for at in range(0, 200):
            for _, writer in pairs:
                writer.write(raw[at : at + 1])
            if at % 40 == 0:
                await served(engine_server)
        reader, writer = pairs[0]
        writer.write(raw[200:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert await leaks(engine_server) == []


async def test_clients_that_do_not_read(engine_server: EngineServer) -> None:
    """Their streams fill the smallest buffers there are, and then they are gone."""
    loop, pairs = asyncio.get_running_loop(), list[Pair]()
    for _ in range(16):
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        plain.setblocking(False)
        await loop.sock_connect(plain, address(engine_server))
        pair = await asyncio.open_connection(sock=plain, limit=256)
        pair[1].write(whole(LONG))
        pairs.append(pair)
    for _ in range(5):
        await served(engine_server)
    await close_all(pairs)
    assert await leaks(engine_server) == []


async def test_a_storm_of_clients_that_leave_in_mid_stream(engine_server: EngineServer) -> None:
    """Waves of forty; each wave leaves when its first bytes have come, or before."""
    for wave in range(5):
        async with connections(engine_server, 40) as pairs:
            for _, writer in pairs:
                writer.write(whole(LONG))
            for reader, _ in pairs[: 8 * wave : 4]:
                await reader.read(20)
        await served(engine_server)
    assert await leaks(engine_server) == []
