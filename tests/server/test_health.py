"""Is a server that cannot serve taken out of rotation, and no other one?"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.context import attach_server
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.state.engine_watch import EngineWatch
from tests.server.asgi import Client
from tests.server.fake_vllm import FakeEngine, FakeServer


class World:
    """A server, looked at twice a second."""

    def __init__(self, **config: Any) -> None:
        self.engine = FakeEngine()
        self.server = FakeServer(self.engine, config)
        self.middleware = ScorpioMiddleware(self.server)
        self.context = attach_server(self.server)
        self.middleware._attached = self.context
        self.watch = EngineWatch(self.context)
        self.now_s = 1000.0

    async def pass_s(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.now_s += 0.5
            await self.watch.look(self.now_s)
            await asyncio.sleep(0)

    async def health(self) -> tuple[int, str]:
        reply = await Client(self.middleware, self.server).request("GET", "/scorpio/health")
        return reply.status, reply.json()["status"]


async def test_idle_is_healthy_for_ever() -> None:
    world = World()
    assert await world.health() == (200, "ok")
    await world.pass_s(7200.0)
    assert await world.health() == (200, "ok")


@pytest.mark.parametrize(("config", "limit_s"), [({}, 15.0), ({"stall_s": 5.0}, 5.0)])
async def test_no_progress_with_work_at_hand(config: dict[str, Any], limit_s: float) -> None:
    world = World(**config)
    world.engine.unfinished, world.engine.hung = 3, True
    await world.pass_s(limit_s - 0.5)
    assert await world.health() == (200, "ok")
    await world.pass_s(1.0)
    assert await world.health() == (503, "stalled")
    world.context.flights.heard.outputs += 1  # it comes back
    await world.pass_s(0.5)
    assert await world.health() == (200, "ok")


async def test_steps_without_progress_are_a_stall(tmp_path: Any) -> None:
    """The engine answers and writes its status, but nothing moves."""
    world = World(run_dir=str(tmp_path))
    world.engine.unfinished = 3
    for beat in range(40):
        status = {"heartbeat_unix_s": float(beat), "last_progress_unix_s": 7.0, "steps": beat}
        channel.write_status(tmp_path, status)
        await world.pass_s(0.5)
    assert await world.health() == (503, "stalled")


async def test_a_status_that_is_not_written_any_more_is_no_stall(tmp_path: Any) -> None:
    """A full disk and a long prompt: no output, an old status, but the engine answers."""
    world = World(run_dir=str(tmp_path))
    world.engine.unfinished = 3
    channel.write_status(tmp_path, {"heartbeat_unix_s": 7.0, "last_progress_unix_s": 7.0})
    await world.pass_s(600.0)
    assert await world.health() == (200, "ok")
    world.engine.hung = True
    await world.pass_s(20.0)
    assert await world.health() == (503, "stalled")


async def test_paused_is_not_hung() -> None:
    world = World()
    world.engine.unfinished, world.engine.paused = 3, True
    await world.pass_s(600.0)
    assert await world.health() == (200, "ok")


async def test_a_slow_reader_is_not_a_hung_engine() -> None:
    """Its request has left the engine; only its answer is not read."""
    world = World()
    world.context.flights.calls = 1
    await world.pass_s(600.0)
    assert await world.health() == (200, "ok")


async def test_draining_and_dead() -> None:
    world = World()
    world.context.flights.draining = True
    assert await world.health() == (503, "draining")
    world.engine.errored = True
    assert await world.health() == (503, "dead")
