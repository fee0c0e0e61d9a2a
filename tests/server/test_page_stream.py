"""Does a stream of the page say what the data say, to a bounded number, and end when it should?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scorpio.server.page.listening import Listeners
from scorpio.server.page.routes import DATA_PATH, EVENTS_PATH
from tests.server.asgi import Client, Reply
from tests.server.page_scene import GOOD, Scene, ask, busy


def events(reply: Reply) -> list[Any]:
    """The data of those that came."""
    parts = reply.body.decode().split("\n\n")
    assert parts.pop() == ""
    lines = [part.split("\n") for part in parts]
    assert {line[0] for line in lines} <= {"event: status"}
    return [json.loads(line[1].removeprefix("data: ")) for line in lines]


class Stream:
    """One listener."""

    def __init__(self, scene: Scene) -> None:
        self.client = Client(scene.middleware, scene.server)
        self.task = asyncio.create_task(
            self.client.request("GET", EVENTS_PATH, headers=GOOD, json_type=False)
        )

    async def came(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len([c for c in self.client.reply.chunks if c]) < count:
                await asyncio.sleep(0.01)


def hurried(scene: Scene, lasts_s: float = 60.0, most: int = 2) -> Listeners:
    """Events every 10 ms."""
    listeners = Listeners(scene.page._over, lasts_s, period_s=0.01, most=most)
    scene.page.routes._listeners = listeners
    return listeners


async def test_a_stream_says_what_the_data_say(tmp_path: Path) -> None:
    scene = busy(tmp_path)
    listeners = hurried(scene)
    stream = Stream(scene)
    await stream.came(3)
    assert listeners.count == 1
    stream.client.leave()
    reply = await asyncio.wait_for(stream.task, 5)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-store"
    assert "content-security-policy" in reply.headers
    plain = (await ask(scene, DATA_PATH, GOOD)).json()
    assert set(events(reply)[0]) == set(plain)
    assert events(reply)[0]["classes"] == plain["classes"]
    assert listeners.count == 0


async def test_listeners_are_bounded_and_the_next_one_may_poll(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.runs(1)
    listeners = hurried(scene)
    streams = [Stream(scene) for _ in range(2)]
    for stream in streams:
        await stream.came(1)
    refused = await ask(scene, EVENTS_PATH, GOOD)
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) > 0
    assert (await ask(scene, DATA_PATH, GOOD)).status == 200
    streams[0].client.leave()
    await asyncio.wait_for(streams[0].task, 5)
    third = Stream(scene)
    await third.came(1)
    for stream in (streams[1], third):
        stream.client.leave()
        await asyncio.wait_for(stream.task, 5)
    assert listeners.count == 0


async def test_a_stream_has_an_end(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    hurried(scene, lasts_s=0.05)
    reply = await asyncio.wait_for(Stream(scene).task, 5)
    assert reply.complete
    assert len(events(reply)) >= 2


@pytest.mark.parametrize("how", ["draining", "should_exit"])
async def test_a_server_that_ends_waits_for_no_listener(tmp_path: Path, how: str) -> None:
    scene = Scene(tmp_path)
    scene.context.http_server = SimpleNamespace(should_exit=False)
    hurried(scene)
    stream = Stream(scene)
    await stream.came(2)
    if how == "draining":
        scene.context.flights.draining = True
    else:
        scene.context.http_server.should_exit = True
    reply = await asyncio.wait_for(stream.task, 5)
    assert reply.complete
    assert scene.context.flights.calls == 0  # a drain has not counted it either


async def test_a_stream_ends_when_the_token_is_changed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    hurried(scene)
    stream = Stream(scene)
    await stream.came(1)
    scene.context.environ = {"SCORPIO_ADMIN_TOKEN": "another"}
    reply = await asyncio.wait_for(stream.task, 5)
    assert reply.complete


async def test_one_that_does_not_read_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorpio.server.page.listening.SEND_S", 0.05)
    scene = Scene(tmp_path)
    listeners = hurried(scene)
    started = asyncio.Event()

    async def send(message: Any) -> None:
        started.set()
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    raw = [(b"authorization", GOOD["authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": EVENTS_PATH, "headers": raw, "root_path": ""}
    never = asyncio.Event()
    await asyncio.wait_for(
        scene.middleware({**scope, "app": scene.server}, never.wait, send),  # type: ignore[arg-type]
        5,
    )
    assert started.is_set()
    assert listeners.count == 0
