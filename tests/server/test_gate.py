"""Is a response held exactly until its first token, and passed on unchanged from then on?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Send

from tests.server import fake_vllm as fake
from tests.server.asgi import Client
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens

CHAT = (
    b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"vllm_xargs":{"slo_ttft_ms":1}}'
)
PATH = "/v1/chat/completions"


async def test_a_normal_stream_is_passed_on_as_it_is() -> None:
    server = FakeServer(FakeEngine([tokens(3)]), behave=fake.stream_chat)
    reply = await client(server).request("POST", PATH, CHAT)
    bare = FakeServer(FakeEngine([tokens(3)]), behave=fake.stream_chat)
    wanted = await Client(bare, bare).request("POST", PATH, CHAT)
    assert reply.chunks == wanted.chunks
    assert reply.status == 200
    assert reply.headers == {**wanted.headers, "x-scorpio-policy": "scorpio"}


async def test_nothing_is_held_after_the_first_token() -> None:
    """Each message must have left before the next output is made."""
    seen: list[int] = []
    engine = FakeEngine()
    server = FakeServer(engine, behave=fake.stream_chat)
    user = client(server)

    async def outputs() -> Any:
        for item in tokens(4):
            seen.append(len(user.reply.sent))
            yield item

    engine.generate = lambda *_, **__: outputs()  # type: ignore[method-assign]
    await user.request("POST", PATH, CHAT)
    # nothing before the first token; then start + role + token; then one chunk per token
    assert seen == [0, 3, 4, 5]


PATIENT = [
    (PATH, b'{"model":"tiny"}', {}),
    (PATH, CHAT, {"x-scorpio-on-miss": "wait"}),
    (PATH, CHAT, {"x-scorpio-on-miss": "degrade"}),
    ("/v1/audio/transcriptions", b"--form", {}),
]


@pytest.mark.parametrize(("path", "body", "headers"), PATIENT)
async def test_a_stream_that_cannot_be_refused_is_not_held(
    path: str, body: bytes, headers: dict[str, str]
) -> None:
    async def slow(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        await fake.start(send, "text/event-stream; charset=utf-8")
        keep_alive = {"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True}
        await send(keep_alive)
        seen.append(len(user.reply.sent))
        async for _ in server.handler.engine_client.generate("p", fake.SamplingParams(), "id"):
            pass
        await send({"type": "http.response.body", "body": fake.DONE, "more_body": False})

    seen: list[int] = []
    user = client(FakeServer(FakeEngine([tokens(1)]), behave=slow))
    reply = await user.request("POST", path, body, headers, json_type=body != b"--form")
    assert seen == [2]
    assert reply.chunks == [b": keep-alive\n\n", fake.DONE]
    # one that may be refused sees neither
    seen.clear()
    user = client(FakeServer(FakeEngine([tokens(1)]), behave=slow))
    assert (await user.request("POST", PATH, CHAT)).chunks == [fake.DONE]
    assert seen == [0]


@pytest.mark.parametrize("body", [CHAT.replace(b"{", b'{"a":0,', 1), b'{"model":"tiny"}'])
@pytest.mark.parametrize("path", [PATH, "/v1/messages"])
async def test_one_that_is_turned_away_all_the_same_ends_with_an_error(
    path: str, body: bytes
) -> None:
    full = "scorpio:queue_full?retry_after_ms=2000"
    wait = {"x-scorpio-on-miss": "wait"}
    server = FakeServer(FakeEngine([fake.refused(full)]), behave=fake.stream_chat)
    reply = await client(server).request("POST", path, body, wait)
    assert (reply.status, reply.complete) == (200, True)
    first, data = b"event: error\ndata: ", b"data: "
    (event,) = reply.chunks
    assert event.startswith(first if path == "/v1/messages" else data)
    assert b'"code": 429' in event
    assert event.endswith(b"\n\n" if path == "/v1/messages" else fake.DONE)
    # without streaming nothing has been sent by then: a 429
    server = FakeServer(FakeEngine([fake.refused(full)]))
    reply = await client(server).request("POST", path, body, wait)
    assert (reply.status, reply.headers["x-scorpio-reject-reason"]) == (429, "queue_full")


@pytest.mark.parametrize("behave", [fake.answer_chat, fake.stream_chat])
async def test_client_that_leaves_while_held_aborts_the_engine_request(behave: Any) -> None:
    """vLLM waits for the disconnect in `receive` and cancels its handler."""

    async def cancelling(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(behave(server, raw, receive, send))
        assert (await receive())["type"] == "http.disconnect"
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    engine = FakeEngine([tokens(3)], hold=asyncio.Event())
    user = client(FakeServer(engine, behave=cancelling))
    request = asyncio.create_task(user.request("POST", PATH, CHAT))
    while not engine.params:
        await asyncio.sleep(0)
    for _ in range(10):  # let the handler reach the engine
        await asyncio.sleep(0)
    assert user.reply.sent == []
    user.leave()
    await request
    assert engine.aborted == 1


async def test_closing_the_watched_stream_closes_the_engine_stream() -> None:
    engine = FakeEngine([tokens(5)])
    server = FakeServer(engine)

    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        stream = server.handler.engine_client.generate("p", fake.SamplingParams(), "id")
        await anext(stream)
        await stream.aclose()
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    server.behave = behave
    await client(server).request("POST", PATH, CHAT)
    assert engine.aborted == 1


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (
            b'data: {"error": {"message": "busy", "type": "Service Unavailable", "param": null,'
            b' "code": 503}}\n\n',
            503,
        ),
        (
            b'event: error\ndata: {"type":"error","error":{"type":"internal_error",'
            b'"message":"busy"}}\n\n',
            500,
        ),
        (b'data: {"error": "not the shape"}\n\n', 200),
        (b'data: {"error": {"message": "m", "type": "t", "code": 7}}\n\n', 200),
    ],
)
async def test_stream_that_fails_before_its_first_token_is_an_http_error(
    event: bytes, status: int
) -> None:
    """Load tools count a 200 whose stream ends in an error event as a success."""

    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        await fake.start(send, "text/event-stream")
        for part in (event, fake.DONE):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    reply = await client(FakeServer(FakeEngine(), behave=behave)).request("POST", PATH, CHAT)
    assert reply.status == status
    assert reply.complete
    assert (reply.chunks[0] == event) == (status == 200)


async def test_error_answers_pass_at_once() -> None:
    sent_before_body: list[Message] = []

    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        await fake.start(send, "application/json", 404)
        sent_before_body.extend(user.reply.sent)
        await send({"type": "http.response.body", "body": b"no model"})

    user = client(FakeServer(FakeEngine(), behave=behave))
    reply = await user.request("POST", PATH, CHAT)
    assert (reply.status, reply.body, len(sent_before_body)) == (404, b"no model", 1)
