"""Is a server that cannot work stopped before it serves?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.types import Message

from predictors.length.ladder import LengthLadder
from scorpio.server import context
from scorpio.server.drain import Drain
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.request.flights import Flights
from scorpio.server.request.lengths import LengthService
from scorpio.server.request.ticket import Heard, WatchedEngine, attach_watch
from scorpio.versions import supported
from tests.server.fake_vllm import FakeEngine, FakeServer, Handler, SamplingParams


async def lifespan(server: Any) -> tuple[list[Message], list[Any]]:
    """Start-up as uvicorn does it: (what our side sent, scopes the application saw)."""
    sent: list[Message] = []
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    await ScorpioMiddleware(app)({"type": "lifespan", "app": server}, receive, send)
    return sent, seen


async def test_a_good_server_starts_watched() -> None:
    server = FakeServer(FakeEngine())
    sent, seen = await lifespan(server)
    assert [m["type"] for m in sent] == ["lifespan.startup.complete"]
    assert len(seen) == 1
    assert isinstance(server.handler.engine_client, WatchedEngine)
    assert server.state.engine_client is server.engine  # health and admin routes stay vLLM's


async def test_wrong_settings_stop_the_start() -> None:
    sent, seen = await lifespan(FakeServer(FakeEngine(), {"polcy": "fcfs"}))
    assert [m["type"] for m in sent] == ["lifespan.startup.failed"]
    assert "scorpio.polcy" in sent[0]["message"]
    assert seen == []


async def test_another_vllm_stops_the_start() -> None:
    server = FakeServer(FakeEngine())
    del server.state._state["openai_serving_chat"]
    sent, _ = await lifespan(server)
    assert [m["type"] for m in sent] == ["lifespan.startup.failed"]
    assert supported() in sent[0]["message"]


def test_handlers_inside_handlers_are_found_once() -> None:
    server = FakeServer(FakeEngine())
    inner = Handler(server.engine)
    stranger = SimpleNamespace(engine_client=server.engine)  # not one of vLLM's handlers
    server.handler.inner = inner  # type: ignore[attr-defined]
    inner.back = server.handler  # type: ignore[attr-defined]
    server.state.stranger = stranger
    lengths = LengthService(LengthLadder(), "tiny")
    heard = Heard()
    assert attach_watch(server.state, lengths, heard) == 2
    assert attach_watch(server.state, lengths, heard) == 2
    assert isinstance(inner.engine_client, WatchedEngine)
    assert inner.engine_client._engine is server.engine
    assert stranger.engine_client is server.engine
    assert inner.engine_client.errored is False  # everything else is the engine's own


async def test_calls_outside_a_request_are_untouched() -> None:
    engine = FakeEngine([[]])
    watched = WatchedEngine(engine, LengthService(LengthLadder(), "tiny"), Heard())
    stream = watched.generate("p", SamplingParams(), "id")
    assert [item async for item in stream] == []
    assert engine.params[0].extra_args is None


async def test_websockets_pass() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    scope = {
        "type": "websocket",
        "path": "/v1/realtime",
        "headers": [],
        "app": FakeServer(FakeEngine()),
    }
    await ScorpioMiddleware(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == ["websocket"]


async def test_a_length_model_that_is_not_there_stops_the_start() -> None:
    sent, seen = await lifespan(FakeServer(FakeEngine(), {"length_model": "/no/such/model"}))
    assert [m["type"] for m in sent] == ["lifespan.startup.failed"]
    assert "scorpio.length_model: length model /no/such/model" in sent[0]["message"]
    assert seen == []


@pytest.mark.parametrize(
    ("errored", "draining", "drains", "died"),
    [
        (True, False, True, True),
        (True, True, True, False),  # stopped by us
        (False, False, True, False),
        (True, False, False, False),  # vLLM's own end looks the same
    ],
)
async def test_the_death_of_the_engine_is_told_to_the_command(
    monkeypatch: pytest.MonkeyPatch, errored: bool, draining: bool, drains: bool, died: bool
) -> None:
    monkeypatch.setattr(Drain, "take_signals", lambda _self: None)
    server = FakeServer(FakeEngine(errored=errored))
    server.state.vllm_config.shutdown_timeout = 30 if drains else 0
    config = uvicorn.Config(server, log_config=None)
    config.load()
    server.state.server = uvicorn.Server(config)
    middleware_flights = Flights(draining=draining)
    monkeypatch.setattr(context, "Flights", lambda: middleware_flights)
    await lifespan(server)
    assert getattr(server.state.args, "scorpio_engine_died", False) is died
