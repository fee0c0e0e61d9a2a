"""Does a server that is told to stop finish what it has begun, and nothing else?"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from scorpio.server.context import attach_server
from scorpio.server.drain import DRAINING, Drain
from scorpio.server.middleware import ScorpioMiddleware
from tests.server import fake_vllm as fake
from tests.server.asgi import Client, Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, tokens

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}).encode()


class World:
    """A server that is about to be told."""

    def __init__(self, behave: Any = fake.stream_chat, timeout_s: float = 3600.0) -> None:
        self.hold = asyncio.Event()
        self.engine = FakeEngine([tokens(2) for _ in range(9)], hold=self.hold)
        self.server = FakeServer(self.engine, behave=behave)
        self.middleware = ScorpioMiddleware(self.server)
        self.context = attach_server(self.server)
        self.middleware._attached = self.context
        self.uvicorn = SimpleNamespace(config=SimpleNamespace(), should_exit=False)
        self.drain = Drain(self.context, self.uvicorn, timeout_s)

    def ask(self, method: str = "POST", path: str = PATH) -> asyncio.Task[Reply]:
        client = Client(self.middleware, self.server)
        return asyncio.create_task(client.request(method, path, BODY))

    async def in_work(self) -> asyncio.Task[Reply]:
        task = self.ask()
        while not self.engine.params:
            await asyncio.sleep(0)
        return task

    def engine_is_whole(self) -> bool:
        return self.engine.stopped_within_s is None

    async def over(self) -> None:
        while not self.uvicorn.should_exit:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("behave", [fake.answer_chat, fake.stream_chat])
async def test_running_requests_end_and_new_ones_are_told(behave: Any) -> None:
    world = World(behave)
    running = await world.in_work()
    world.drain.begin()
    for path in (PATH, "/v1/embeddings", "/scorpio/policy"):
        refused = await world.ask("PUT" if "scorpio" in path else "POST", path)
        assert refused.status == 503
        assert refused.headers["x-scorpio-reject-reason"] == DRAINING
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
    assert (await world.ask("GET", "/scorpio/status")).status == 200
    assert world.engine_is_whole()  # until the last response is out
    world.hold.set()
    reply = await running
    assert (reply.status, reply.complete) == (200, True)
    await world.over()
    assert not world.engine_is_whole()
    assert world.engine.abort_ids == []


async def test_an_idle_server_ends_at_once() -> None:
    world = World()
    world.drain.begin()
    await world.over()


@pytest.mark.parametrize("timeout_s", [0.1, 3600.0])
async def test_what_does_not_end_in_time_is_cut(timeout_s: float) -> None:
    """By the time, or by a second signal."""
    world = World(fake.answer_chat, timeout_s)
    running = await world.in_work()
    world.drain.begin()
    if timeout_s > 1.0:
        world.drain.begin()
    while not world.engine.abort_ids:
        await asyncio.sleep(0.01)
    world.hold.set()  # as the abort does in the real engine
    reply = await running
    assert (reply.status, reply.complete) == (503, True)
    assert reply.headers["x-scorpio-reject-reason"] == DRAINING
    await world.over()
    assert world.uvicorn.config.timeout_graceful_shutdown > 0


async def test_a_stream_that_has_begun_ends_with_an_error_event() -> None:
    world = World(timeout_s=0.1)
    world.engine.hold = None
    begun, endless = asyncio.Event(), asyncio.Event()

    async def outputs() -> Any:
        yield tokens(2)[0]
        begun.set()
        await endless.wait()

    world.engine.generate = lambda *_, **__: outputs()  # type: ignore[method-assign]
    client = Client(world.middleware, world.server)
    task = asyncio.create_task(client.request("POST", PATH, BODY))
    await begun.wait()
    world.drain.begin()
    await world.over()
    assert client.reply.status == 200
    assert client.reply.chunks[-1].startswith(b'data: {"error"')
    assert client.reply.complete
    endless.set()
    await task
    assert client.reply.complete


async def test_an_engine_that_cannot_be_stopped_does_not_keep_the_server() -> None:
    world = World()

    def broken(timeout: float) -> None:
        raise RuntimeError("cannot")

    world.engine.shutdown = broken  # type: ignore[method-assign]
    world.drain.begin()
    await world.over()
    assert world.drain._task is not None
    with pytest.raises(RuntimeError):
        await world.drain._task
