"""Can a request of ours meet a connection that its server is closing?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from scorpio import http_client

PRODUCT = ("scorpio", "workloads", "predictors")
ROOT = Path(__file__).parents[1]


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[tuple[str, list[object]]]:
    """An address, and the connection of each request that came there."""
    connections: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        connections.append(request.transport)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", connections
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("idle_s", "kept"), [(0.0, True), (0.3, False)])
async def test_a_connection_that_was_idle_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, kept: bool
) -> None:
    monkeypatch.setattr(http_client, "IDLE_S", 30.0 if kept else 0.2)
    async with (
        server() as (url, connections),
        aiohttp.ClientSession(connector=http_client.connector()) as session,
    ):
        for _ in range(2):
            async with session.post(url) as answer:
                await answer.read()
            await asyncio.sleep(idle_s)
    assert (connections[0] is connections[1]) == kept


def test_it_is_less_than_any_server_waits() -> None:
    envs = pytest.importorskip("vllm.envs")
    assert http_client.IDLE_S <= envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE / 2


def _files(wanted: Callable[[str], bool]) -> list[str]:
    paths = (path for name in PRODUCT for path in (ROOT / name).rglob("*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if wanted(path.read_text())]


def test_every_client_is_made_so() -> None:
    assert _files(lambda text: "TCPConnector(" in text) == ["scorpio/http_client.py"]
    assert _files(lambda text: "keepalive_timeout" in text) == ["scorpio/http_client.py"]
