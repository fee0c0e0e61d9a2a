"""What does the server make of a hostile request? Sends it, and reads the whole answer."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import aiohttp

from tests.fuzz.bodies import Shot

HANG_S = 60.0  # no answer at all; a busy machine may be slow
LATE_S = 5.0
_KEPT = 400
_CLOSED = ("ClientOSError", "ServerDisconnectedError", "ConnectionResetError")
_IN_STREAM = re.compile(rb'"error"\s*:\s*\{.{0,600}?"code"\s*:\s*(5\d\d)', re.S)


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer. status 0: the connection ended without one; -1: the client cut it off itself."""

    status: int
    seconds: float
    text: str = ""

    @property
    def is_fault(self) -> bool:
        """An answer that no client should get, whatever it sends."""
        return self.status == 0 or self.status >= 500


async def shoot(session: aiohttp.ClientSession, url: str, one: Shot) -> Hit:
    """Send one request and read the whole answer. After a 500 the server closes the connection
    without a word: a request that was on its way in it is sent once more."""
    hit = await _shoot(session, url, one)
    return await _shoot(session, url, one) if hit.text.startswith(_CLOSED) else hit


async def _shoot(session: aiohttp.ClientSession, url: str, one: Shot) -> Hit:
    clock = asyncio.get_running_loop()
    start_s = clock.time()
    try:
        async with asyncio.timeout(HANG_S):
            if one.cut:
                await _cut_off(url, one)
                return Hit(-1, clock.time() - start_s)
            async with session.post(
                url + one.path, data=one.body, headers=one.headers, skip_auto_headers=["accept"]
            ) as answer:
                raw = await answer.read()
                inside = _IN_STREAM.search(raw) if answer.status == 200 else None
                status = int(inside[1]) if inside else answer.status
                return Hit(status, clock.time() - start_s, raw[:_KEPT].decode(errors="replace"))
    except TimeoutError:
        return Hit(0, clock.time() - start_s, f"no answer within {HANG_S:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Hit(0, clock.time() - start_s, f"{type(error).__name__}: {error}")


async def _cut_off(url: str, one: Shot) -> None:
    """Promise the whole body, send a part, and go."""
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {one.path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(one.body)}\r\n"
    head += "content-type: application/json\r\n\r\n"
    writer.write(head.encode() + one.body[: -one.cut])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
