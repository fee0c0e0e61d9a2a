"""Can a client hold a connection, a slot or memory for nothing? Over real sockets, on uvicorn."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from scorpio.server import connections
from scorpio.server.accounts import in_flight
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, tokens
from tests.server.posting import CHAT
from tests.server.real_http import RealHttp, real_http

PATH = "/v1/chat/completions"
RAW = json.dumps(CHAT).encode()
HEAD = (
    f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    f"content-length: {len(RAW)}\r\n"
).encode()
ASK = HEAD + b"\r\n" + RAW
SHORT_S = 0.2
pytestmark = pytest.mark.parametrize("http", ["httptools", "h11"])


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PERIOD_S", 0.02)


def application(behave: Any = None, **config: Any) -> FakeServer:
    return FakeServer(FakeEngine([tokens(3) for _ in range(20)]), config, behave=behave)


def closed(why: str) -> float:
    name = "scorpio_connections_closed_total"
    return REGISTRY.get_sample_value(name, {"model_name": "tiny", "why": why}) or 0.0


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def asked(server: RealHttp) -> bytes:
    """A whole request on a connection of its own, and the status line of its answer."""
    async with server.wire() as wire:
        await wire.say(HEAD + b"connection: close\r\n\r\n" + RAW)
        return (await wire.rest()).split(b"\r\n")[0]


def slots(server: RealHttp) -> int:
    attached = server.middleware._attached
    assert attached is not None
    return attached.in_flight.requests


OK = b"HTTP/1.1 200 OK"


async def test_an_honest_client_sees_no_limit(http: str) -> None:
    async with real_http(application(), http) as server, server.wire() as wire:
        for _ in range(3):  # one connection, kept alive; the body in two parts
            await wire.say(ASK[:-5])
            await asyncio.sleep(0.05)
            await wire.say(ASK[-5:])
            head = await wire.head()
            assert head.startswith(OK)
            while b"[DONE]" not in head and not head.endswith(b"\r\n0\r\n\r\n"):
                head += await wire.reader.read(4096)
        assert await asked(server) == OK


@pytest.mark.parametrize("said", [b"", b"POST / HT", HEAD])
async def test_a_header_that_does_not_end(http: str, said: bytes) -> None:
    before = closed("header_time")
    async with real_http(application(most_header_s=SHORT_S), http) as server:
        async with server.wire() as wire:
            if said:
                await wire.say(said)
            assert await wire.rest() == b""
        assert closed("header_time") == before + 1
        assert await asked(server) == OK


async def test_a_header_that_drips(http: str) -> None:
    async with (
        real_http(application(most_header_s=SHORT_S), http) as server,
        server.wire() as wire,
    ):
        await wire.say(ASK)  # a whole request first: then the connection is kept alive
        await wire.head()
        ended = asyncio.create_task(wire.rest())
        while not ended.done():
            wire.writer.write(b"P" if http == "h11" else b"\r\n")
            await asyncio.sleep(0.02)


async def test_a_body_that_drips_is_408(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then: no pause is long, and yet it does not come."""
    monkeypatch.setattr(in_flight, "LEAST_BYTES_PER_S", 1e6)
    monkeypatch.setattr(in_flight, "BETWEEN_PARTS_S", SHORT_S)
    async with real_http(application(), http) as server, server.wire() as wire:
        await wire.say(HEAD + b"\r\n")
        answer = asyncio.create_task(wire.rest())
        for byte in RAW:
            if not answer.done():
                wire.writer.write(bytes([byte]))
            await asyncio.sleep(SHORT_S / 10)
        text = await answer
        assert text.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in text
        assert slots(server) == 0
        assert server.application.bodies == []


async def test_a_body_as_a_whole_has_a_time(http: str) -> None:
    async with real_http(application(most_body_s=SHORT_S), http) as server:
        async with server.wire() as wire:
            await wire.say(HEAD + b"\r\n" + RAW[:4])
            assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")
        assert slots(server) == 0
        assert await asked(server) == OK


async def test_a_body_that_vllm_waits_for(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a route that is not ours to read."""
    monkeypatch.setattr(connections, "_GRACE_S", 0.0)
    before = closed("body_time")
    async with real_http(application(most_body_s=SHORT_S), http) as server:
        async with server.wire() as wire:
            await wire.say(ASK.replace(PATH.encode(), b"/tokenize")[:-3])
            assert await wire.rest() == b""
        assert closed("body_time") == before + 1


async def test_headers_are_bounded(http: str) -> None:
    before = closed("header_size")
    async with real_http(application(most_header_kib=8), http) as server:
        async with server.wire() as wire:
            await wire.say(b"GET /health HTTP/1.1\r\nhost: x\r\n")
            answer = asyncio.create_task(wire.rest())
            while not answer.done():
                wire.writer.write(b"x-fill: " + b"x" * 1000 + b"\r\n")
                await asyncio.sleep(0.005)
            assert (await answer)[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 400", b"")
        if http == "httptools":  # h11 has a bound of its own
            assert closed("header_size") == before + 1
        assert await asked(server) == OK


@pytest.mark.parametrize(
    ("option", "why"),
    [("most_connections", "too_many"), ("most_connections_per_address", "per_address")],
)
async def test_connections_are_bounded(http: str, option: str, why: str) -> None:
    before = closed(why)
    async with real_http(application(**{option: 2}), http) as server:
        held = server.http_server.server_state.connections
        async with server.wire(), server.wire() as second:
            await until(lambda: len(held) == 2)
            async with server.wire() as third:
                text = await third.rest()
                assert text.startswith(b"HTTP/1.1 503 ")
                assert f"connections_{why}".encode() in text
                assert closed(why) == before + 1
            await second.say(ASK)  # those that are in are served
            assert (await second.head()).startswith(OK)
        await until(lambda: not held)
        assert await asked(server) == OK


@pytest.mark.parametrize(("descriptors", "status"), [(1, b"503"), (resource.RLIM_INFINITY, b"200")])
async def test_without_an_option_the_descriptors_count(
    http: str, monkeypatch: pytest.MonkeyPatch, descriptors: int, status: bytes
) -> None:
    async with real_http(application(), http) as server:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (descriptors, descriptors))
        assert status in await asked(server)


async def test_other_addresses_have_their_own(http: str) -> None:
    async with real_http(application(most_connections_per_address=1), http) as server:
        held = server.http_server.server_state.connections
        async with server.wire():
            await until(lambda: len(held) == 1)
            async with server.wire(local_addr=("127.0.0.2", 0)) as other:
                await other.say(ASK)
                assert (await other.head()).startswith(OK)
            async with server.wire() as same:
                assert (await same.rest()).startswith(b"HTTP/1.1 503 ")


async def flood(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
    await fake.start(send, "text/event-stream")
    for _ in range(1000):
        body = b"x" * 100_000
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def test_a_client_that_does_not_read(http: str) -> None:
    before = closed("unread")
    async with (
        real_http(application(flood, most_unread_s=SHORT_S), http) as server,
        server.wire(limit=1 << 10) as wire,
    ):
        await wire.say(ASK.replace(PATH.encode(), b"/other"))
        await until(lambda: closed("unread") == before + 1)
        await until(lambda: not server.http_server.server_state.connections)


async def never(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def test_a_request_that_takes_longer_than_allowed(http: str) -> None:
    app = application(never, most_request_s=SHORT_S)
    async with real_http(app, http) as server, server.wire() as wire:
        await wire.say(ASK)
        head = await wire.head()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"x-should-retry: false" in head


async def test_a_stream_that_takes_longer_ends_with_an_error(http: str) -> None:
    async def begins(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        await fake.start(send, "text/event-stream")
        stream = server.handler.engine_client.generate("p", fake.SamplingParams(), "id")
        async for _ in stream:
            body = fake.chunk({"content": "x"})
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await never(server, raw, receive, send)

    app = application(begins, most_request_s=SHORT_S)
    async with real_http(app, http) as server, server.wire() as wire:
        await wire.say(ASK)
        text = await wire.reader.readuntil(b"[DONE]")
        assert b'"content":"x"' in text.replace(b" ", b"")
        assert b'"code": 504' in text
        assert app.engine.abort_ids


class Talks(FakeServer):
    """A WebSocket that is accepted and closed."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await super().__call__(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})


async def test_a_websocket_gives_its_place_back(http: str) -> None:
    app = Talks(FakeEngine([tokens(1) for _ in range(3)]), {"most_connections_per_address": 1})
    async with real_http(app, http) as server:
        held = server.http_server.server_state.connections
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}/v1/realtime"
            async with session.ws_connect(url) as talk:
                assert (await talk.receive()).type is aiohttp.WSMsgType.CLOSE
        await until(lambda: not held)
        while await asked(server) != OK:  # at the next look it is counted anew
            await asyncio.sleep(0.01)
