"""Does a fleet of real engines lose nothing when a part of it goes?"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from scorpio.http_client import connector
from tests.engine_server import MODEL
from tests.fleet.live import FLEET_MARKS, PATIENCE_S, REPLICAS, STOP_S, LiveFleet

pytestmark = FLEET_MARKS


@dataclass
class Crowd:
    """What became of a load. ended: how each request ended; odd: what must not be; gaps_s: the
    longest silence of a stream that ended with an error event."""

    ended: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)


@asynccontextmanager
async def under_load(url: str, tokens: int = 60) -> AsyncIterator[Crowd]:
    """Streams and others in turn, five a second, until the block has ended; then all that are left
    end too."""
    crowd, stop, work = Crowd(), asyncio.Event(), set()
    async with ClientSession(connector=connector(), timeout=ClientTimeout(total=300)) as session:

        async def arrive() -> None:
            number = 0
            while not stop.is_set():
                work.add(asyncio.create_task(_one(session, url, number, tokens, crowd)))
                number += 1
                await asyncio.sleep(0.2)

        arriving = asyncio.create_task(arrive())
        try:
            await asyncio.sleep(2.0)
            yield crowd
        finally:
            stop.set()
            await arriving
            await asyncio.gather(*work)


async def _one(session: ClientSession, url: str, number: int, tokens: int, crowd: Crowd) -> None:
    stream = number % 2 == 0
    body = {
        "model": MODEL, "prompt": f"{number} hello", "max_tokens": tokens, "ignore_eos": True,
        "stream": stream,
    }  # fmt: skip
    headers = {"x-slo-tpot-ms": ("500", "5000")[number // 2 % 2]}
    try:
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as answer:
            if answer.status != 200:
                crowd.odd.append(f"{answer.status} {await answer.text()}")
                return
            if not stream:
                usage = (await answer.json())["usage"]
                assert usage["completion_tokens"] == tokens
                crowd.ended["unary"] += 1
                return
            last_s, gap_s, text = time.monotonic(), 0.0, b""
            async for part in answer.content.iter_any():
                gap_s, last_s = max(gap_s, time.monotonic() - last_s), time.monotonic()
                text += part
            if b'"error"' in text:
                crowd.ended["told"] += 1
                crowd.gaps_s.append(gap_s)
            elif text.rstrip().endswith(b"[DONE]"):
                crowd.ended["streamed"] += 1
            else:
                crowd.odd.append(f"cut: {text[-200:]!r}")
    except (ClientError, TimeoutError, OSError) as error:
        crowd.odd.append(repr(error))


async def until(true: Callable[[], bool], within_s: float) -> float:
    """Seconds until it was."""
    began_s = time.monotonic()
    while not await asyncio.to_thread(true):
        assert time.monotonic() - began_s < within_s
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


def server_at(url: str) -> int:
    """Process that serves there."""
    port = url.rsplit(":", 1)[1]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and port.encode() in words:
                return int(entry.name)
    raise AssertionError(f"no server at {url}")


async def test_a_replica_that_is_taken_away_cuts_nothing(live_fleet: LiveFleet) -> None:
    """What Serve does when a fleet shrinks: the replica is asked to end, and drains."""
    await asyncio.to_thread(live_fleet.wait_for, REPLICAS)
    victim = live_fleet.able()[0]
    async with under_load(live_fleet.url) as crowd:
        os.kill(server_at(victim), signal.SIGTERM)
        await until(lambda: victim not in live_fleet.able(), PATIENCE_S)
        await asyncio.sleep(2.0)
    assert crowd.odd == []
    assert crowd.ended["told"] == 0
    assert min(crowd.ended["unary"], crowd.ended["streamed"]) >= 5


async def test_a_replica_that_joins_takes_its_share(live_fleet: LiveFleet) -> None:
    (first,) = live_fleet.able()
    await asyncio.to_thread(live_fleet.wait_for, REPLICAS)
    (new,) = [
        n for n, r in live_fleet.replicas().items() if r["url"] != first and r["state"] == "ok"
    ]
    before = live_fleet.metric("scorpio_fleet_requests_total", f'"{new}"')
    async with under_load(live_fleet.url, tokens=10) as crowd:
        await asyncio.sleep(3.0)
    assert crowd.odd == []
    assert live_fleet.metric("scorpio_fleet_requests_total", f'"{new}"') - before >= 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_replica_that_is_gone_loses_nothing(
    live_fleet: LiveFleet, number: signal.Signals
) -> None:
    await asyncio.to_thread(live_fleet.wait_for, REPLICAS)
    victim = live_fleet.able()[0]
    pid = server_at(victim)
    async with under_load(live_fleet.url) as crowd:
        os.kill(pid, number)
        took_s = await until(lambda: victim not in live_fleet.able(), PATIENCE_S)
        await asyncio.sleep(3.0)
    print(f"{number.name}: out of rotation after {took_s:.1f} s, {dict(crowd.ended)}, "
          f"longest silence {max(crowd.gaps_s, default=0.0):.1f} s")  # fmt: skip
    assert crowd.odd == []  # every unary request is answered, every stream ends
    assert crowd.ended["unary"] >= 5
    assert victim not in live_fleet.able()


def test_the_command_ends_with_all_it_has_started(live_fleet: LiveFleet) -> None:
    urls: Sequence[str] = live_fleet.able()
    pids = [server_at(url) for url in urls]
    log = live_fleet.server.process.log_path
    live_fleet.server.process.stop(STOP_S)
    assert not any(Path("/proc", str(pid)).exists() for pid in pids)
    assert "draining" in log.read_text()
