"""Is whatever clients can pile up in this process bounded, and given back?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from scorpio.server.accounts import in_flight
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.request.request_body import replay
from tests.server.asgi import Client, Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, client, refused, tokens
from tests.server.posting import CHAT

PATH = "/v1/chat/completions"
RAW = json.dumps(CHAT).encode()


def serving(config: dict[str, Any], answers: int = 20, **how: Any) -> FakeServer:
    return FakeServer(FakeEngine([tokens(1) for _ in range(answers)]), config, **how)


def queue_full(reply: Reply) -> bool:
    return reply.status == 429 and reply.headers["x-scorpio-reject-reason"] == "queue_full"


def nothing_is_left(middleware: ScorpioMiddleware) -> bool:
    server = middleware._attached
    assert server is not None
    load = server.in_flight
    return (load.requests, load.held_bytes, dict(load.by_account)) == (0, 0, {})


async def test_slots_are_taken_and_given_back() -> None:
    server = serving({"most_in_flight": 2})
    server.engine.hold = asyncio.Event()
    middleware = ScorpioMiddleware(server)
    first = [
        asyncio.create_task(Client(middleware, server).request("POST", PATH, RAW)) for _ in "ab"
    ]
    while len(server.engine.params) < 2:
        await asyncio.sleep(0)
    third = await Client(middleware, server).request("POST", PATH, RAW)
    fourth = await Client(middleware, server).request("POST", PATH, RAW)
    assert queue_full(third)
    assert queue_full(fourth)
    assert third.headers["retry-after-ms"] != fourth.headers["retry-after-ms"]
    server.engine.hold.set()
    assert [(await task).status for task in first] == [200, 200]
    assert (await Client(middleware, server).request("POST", PATH, RAW)).status == 200
    assert nothing_is_left(middleware)


@pytest.mark.parametrize(
    ("extra", "fits"),
    [
        ({"n": 4}, True),
        ({"n": 5}, False),
        ({"prompt": ["a", "b"], "n": 2}, True),
        ({"prompt": ["a", "b"], "n": 3}, False),
        ({"prompt": [[1], [2], [3], [4], [5]]}, False),
        ({"prompt": [1, 2, 3, 4, 5]}, True),
    ],
)
async def test_one_request_counts_as_what_vllm_makes_of_it(
    extra: dict[str, Any], fits: bool
) -> None:
    server = serving({"most_in_flight": 4})
    middleware = ScorpioMiddleware(server)
    raw = json.dumps(CHAT | extra).encode()
    reply = await Client(middleware, server).request("POST", PATH, raw)
    assert reply.status == (200 if fits else 400)  # it would never fit: no retry
    assert fits or server.bodies == []
    assert nothing_is_left(middleware)
    # beside another one it is a matter of time
    load = middleware._attached.in_flight if middleware._attached else None
    assert load is not None
    with load.slot("") as slot:
        load.take(slot, 4)
        assert queue_full(await Client(middleware, server).request("POST", PATH, RAW))
    assert nothing_is_left(middleware)


async def test_one_key_cannot_take_all() -> None:
    server = serving({"most_in_flight_per_key": 1}, api_keys=["a", "b"])
    server.engine.hold = asyncio.Event()
    middleware = ScorpioMiddleware(server)

    def ask(key: str) -> Any:
        headers = {"authorization": f"Bearer {key}", "x-llm-d-inference-fairness-id": "new"}
        return Client(middleware, server).request("POST", PATH, RAW, headers)

    held = asyncio.create_task(ask("a"))
    while not server.engine.params:
        await asyncio.sleep(0)
    assert queue_full(await ask("a"))
    other = asyncio.create_task(ask("b"))
    while len(server.engine.params) < 2:
        await asyncio.sleep(0)
    server.engine.hold.set()
    assert [(await held).status, (await other).status] == [200, 200]
    assert nothing_is_left(middleware)


@pytest.mark.parametrize("path", [PATH, "/v1/audio/transcriptions"])
async def test_a_body_that_is_too_large_is_413(path: str) -> None:
    server = serving({"most_body_mib": 0.001})
    middleware = ScorpioMiddleware(server)
    large = [b"{", b" " * 1000, b" " * 1000, b"}"]
    reply = await Client(middleware, server).request("POST", path, large)
    assert (reply.status, server.bodies, reply.complete) == (413, [], True)
    # also when its length is not announced
    untold: Any = [(b"content-length", b"x")]
    reply = await Client(middleware, server).request("POST", path, large, untold)
    assert (reply.status, server.bodies) == (413, [])
    assert nothing_is_left(middleware)
    assert (await Client(middleware, server).request("POST", path, RAW)).status == 200


async def test_all_bodies_together_are_bounded() -> None:
    server = serving({"most_held_mib": 0.001})
    middleware = ScorpioMiddleware(server)
    reply = await Client(middleware, server).request("POST", PATH, [b"{", b" " * 2000, b"}"])
    assert queue_full(reply)
    assert nothing_is_left(middleware)
    assert (await Client(middleware, server).request("POST", PATH, RAW)).status == 200


async def test_a_body_that_stops_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "BETWEEN_PARTS_S", 0.0)
    server = serving({})
    middleware = ScorpioMiddleware(server)
    user = Client(middleware, server)
    reply = await user.request("POST", PATH, [])  # its first part never comes
    assert (reply.status, server.bodies) == (408, [])
    assert nothing_is_left(middleware)


async def test_whatever_happens_the_slot_is_given_back() -> None:
    async def raising(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        raise RuntimeError("handler")

    server = serving({}, behave=raising)
    middleware = ScorpioMiddleware(server)
    with pytest.raises(RuntimeError):
        await Client(middleware, server).request("POST", PATH, RAW)
    assert nothing_is_left(middleware)
    gone = Client(middleware, server)
    gone.leave()
    assert (await gone.request("POST", PATH, [])).sent == []
    bad = await Client(middleware, server).request("POST", PATH, RAW, {"x-slo-ttft-ms": "x"})
    assert bad.status == 400
    assert nothing_is_left(middleware)
    server = FakeServer(FakeEngine([refused()]))
    middleware = ScorpioMiddleware(server)
    assert (await client(server, middleware).request("POST", PATH, RAW)).status == 429
    assert nothing_is_left(middleware)


async def test_a_body_is_released_once_vllm_has_it() -> None:
    body = b"x" * 1000
    before = sys.getrefcount(body)
    again = replay(body, lambda: None)  # type: ignore[arg-type, return-value]
    assert sys.getrefcount(body) > before
    message = await again()
    assert message["body"] is body
    del message
    assert sys.getrefcount(body) == before


async def test_the_admin_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    bearer = {"authorization": "Bearer sesame"}
    put = client(serving({})).request("PUT", "/scorpio/policy", b" " * 70_000, bearer)
    assert (await put).status == 413
