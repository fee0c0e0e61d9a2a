"""What does the front of a fleet cost? Its processor time for each request and event passed on.

The front, a replica that answers at once, and the client are processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from aiohttp import ClientSession, TCPConnector, web

from scorpio.studies.study import Rows, table
from tests.fleet.replicas import FakeReplica, answers, fleet_of, streams

EVENTS = 200
AT_ONCE = 16
_PROMPTS = {"short prompt": 200, "long prompt": 32_000}  # characters


def rows(count: int) -> Rows:
    """One for each kind of request."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with _running(context.Process(target=_front, args=(theirs, count))):
        url, pid = ours.recv()
        found: Rows = []
        for name, chars in _PROMPTS.items():
            spent = _spent(pid, url, {"prompt": "x" * chars, "max_tokens": 4}, count)
            found.append({"request": name, "us": round(1e6 * spent / count)})
        few = max(count // 20, AT_ONCE)
        body = {"prompt": "x" * 200, "stream": True}
        each = 1e6 * _spent(pid, url, body, few) / (few * EVENTS)
        found.append({"request": "event of a stream", "us": round(each)})
        ours.send(None)
    return found


def text(found: Rows) -> str:
    """A table."""
    return table(["passed on", "us of a core"], [[r["request"], str(r["us"])] for r in found])


@contextmanager
def _running(process: BaseProcess) -> Iterator[None]:
    process.start()
    try:
        yield
    finally:
        process.join(20.0)
        process.kill()


def _spent(pid: int, url: str, body: dict[str, object], count: int) -> float:
    """Seconds of processor time."""
    asyncio.run(_ask(url, body, AT_ONCE))  # connections, caches
    before = _cpu_s(pid)
    asyncio.run(_ask(url, body, count))
    return _cpu_s(pid) - before


async def _ask(url: str, body: dict[str, object], count: int) -> None:
    raw, headers = json.dumps(body), {"content-type": "application/json", "x-slo-ttft-ms": "9000"}
    left = iter(range(count))

    async def client(session: ClientSession) -> None:
        for _ in left:
            async with session.post(url + "/v1/completions", data=raw, headers=headers) as answer:
                await answer.read()

    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        await asyncio.gather(*(client(session) for _ in range(AT_ONCE)))


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _front(pipe: Connection, count: int) -> None:
    """In a process of its own; the replica is in another."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    replica = context.Process(target=_replica, args=(theirs,), daemon=True)
    replica.start()
    url = ours.recv()

    async def serve() -> None:
        stand_in = FakeReplica("near")
        async with fleet_of(stand_in) as fleet:
            del fleet.listed["near"]
            fleet.listed["far"] = url
            await fleet.until(lambda: set(fleet.front.members.by_name) == {"far"})
            await fleet.until(lambda: len(fleet.front.members) == 1)
            pipe.send((fleet.url, os.getpid()))
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(serve())
    replica.terminate()


def _replica(pipe: Connection) -> None:
    async def either(replica: FakeReplica, request: web.Request) -> web.StreamResponse:
        streamed = b'"stream"' in await request.read()
        return await (streams(EVENTS, every_s=0.0) if streamed else answers)(replica, request)

    async def serve() -> None:
        runner = web.AppRunner(FakeReplica("far", either).app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(f"http://127.0.0.1:{runner.addresses[0][1]}")
        while True:
            await asyncio.sleep(3600)

    asyncio.run(serve())


if __name__ == "__main__":
    began = time.monotonic()
    print(text(rows(1000)), f"{time.monotonic() - began:.0f} s")
