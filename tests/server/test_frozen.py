"""Is a client with a deadline answered while the engine says nothing? And no other one?"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.context import attach_server
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.state.engine_watch import FROZEN, EngineWatch
from tests.server import fake_vllm as fake
from tests.server.asgi import Client
from tests.server.fake_vllm import FakeEngine, FakeServer, tokens

PATH = "/v1/chat/completions"
LATE = {"x-slo-ttft-ms": "1"}


def body(**xargs: Any) -> bytes:
    message = {"role": "user", "content": "hi"}
    return json.dumps({"model": "tiny", "messages": [message], "vllm_xargs": xargs}).encode()


class World:
    """A server whose engine holds every request back, and the watch, driven by hand."""

    def __init__(self, behave: Any = fake.stream_chat, **config: Any) -> None:
        self.hold = asyncio.Event()
        self.engine = FakeEngine([tokens(2) for _ in range(9)], hold=self.hold, unfinished=1)
        self.server = FakeServer(self.engine, config, behave=behave)
        self.middleware = ScorpioMiddleware(self.server)
        self.middleware._attached = attach_server(self.server)
        self.watch = EngineWatch(self.middleware._attached)
        self.now_s = asyncio.get_running_loop().time()

    async def ask(self, raw: bytes, headers: dict[str, str]) -> tuple[Client, asyncio.Task[Any]]:
        """A request that has reached the engine."""
        before, client = len(self.engine.params), Client(self.middleware, self.server)
        task = asyncio.create_task(client.request("POST", PATH, raw, headers))
        while len(self.engine.params) == before:
            await asyncio.sleep(0)
        return client, task

    async def pass_s(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.now_s += 0.5
            await self.watch.look(self.now_s)
            await asyncio.sleep(0)


@pytest.mark.parametrize("behave", [fake.answer_chat, fake.stream_chat])
async def test_the_api_process_answers_for_a_frozen_engine(behave: Any) -> None:
    world = World(behave)
    world.engine.hung = True
    client, task = await world.ask(body(), LATE)
    await world.pass_s(1.5)
    assert client.reply.sent == []  # it may still be one long step
    await world.pass_s(3.0)
    assert client.reply.status == 503
    assert client.reply.headers["x-scorpio-reject-reason"] == FROZEN
    assert int(client.reply.headers["retry-after"]) > 0
    assert client.reply.complete
    assert world.engine.abort_ids == ["id"]
    world.hold.set()  # the engine comes back: what it says now is too late
    await task
    assert len(client.reply.starts) == 1


async def test_what_hangs_hangs_until_it_speaks() -> None:
    """Also when the requests that showed it have been ended; new ones are told at once."""
    world = World()
    world.engine.hung = True
    _, first = await world.ask(body(), LATE)
    await world.pass_s(10.0)
    world.engine.unfinished = 0  # as the abort leaves it
    await world.pass_s(60.0)
    soon = Client(world.middleware, world.server)
    reply = await soon.request("POST", PATH, body(), {"x-slo-ttft-ms": "80000000"})
    assert (reply.status, reply.headers["x-scorpio-reject-reason"]) == (503, FROZEN)
    assert len(world.engine.params) == 1  # it never reached the engine
    health = await Client(world.middleware, world.server).request("GET", "/scorpio/health")
    assert health.status == 503
    world.engine.wake()
    world.hold.set()
    await first
    await world.pass_s(2.0)
    health = await Client(world.middleware, world.server).request("GET", "/scorpio/health")
    assert health.status == 200
    reply = await soon.request("POST", PATH, body(), {"x-slo-ttft-ms": "80000000"})
    assert len(world.engine.params) == 2


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (body(), {}),
        (body(), {"x-slo-ttft-ms": "80000000"}),
        (body(slo_on_miss="wait"), LATE),
        (body(slo_on_miss="degrade"), LATE),
    ],
)
async def test_others_wait_as_long_as_it_takes(raw: bytes, headers: dict[str, str]) -> None:
    world = World()
    world.engine.hung = True
    client, task = await world.ask(raw, headers)
    await world.pass_s(60.0)
    assert client.reply.chunks == []
    world.hold.set()
    await task
    assert client.reply.status == 200
    assert client.reply.chunks[-2] == fake.DONE
    assert world.engine.abort_ids == []


@pytest.mark.parametrize("paused", [True, False])
async def test_an_engine_that_answers_refuses_for_itself(paused: bool) -> None:
    """Paused, or at work on something long: it is asked, and it answers."""
    world = World()
    world.engine.paused = paused
    client, task = await world.ask(body(), LATE)
    await world.pass_s(60.0)
    assert client.reply.sent == []
    world.hold.set()
    await task


async def test_stock_scheduling_makes_no_promise() -> None:
    world = World(policy="fcfs")
    world.engine.hung = True
    client, task = await world.ask(body(), LATE)
    await world.pass_s(60.0)
    assert client.reply.sent == []
    world.hold.set()
    await task


async def test_progress_in_the_status_is_a_sign_of_life(tmp_path: Any) -> None:
    """A prompt of many chunks: no output for a minute, and steps all the time."""
    world = World(run_dir=str(tmp_path))
    world.engine.hung = True
    client, task = await world.ask(body(), LATE)
    for step in range(60):
        channel.write_status(tmp_path, {"steps": step})
        await world.pass_s(1.0)
    assert client.reply.sent == []
    await world.pass_s(4.0)
    assert client.reply.status == 503
    world.hold.set()
    await task
