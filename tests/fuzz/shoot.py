"""What does the server make of a hostile request? Sends it, and reads the whole answer.

A client of its own, for speed: one connection that is kept, no header but those of the shot.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from tests.fuzz.bodies import Shot

HANG_S = 60.0  # no answer at all; a busy machine may be slow
LATE_S = 5.0
_KEPT = 400
_MOST_HEAD = 1 << 17
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


class Gun:
    """One client: one request at a time, over a connection that lasts as long as the server lets
    it."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def shoot(self, one: Shot) -> Hit:
        """Send one request and read the whole answer. After a 500 the server closes the connection
        without a word: a request that was on its way in it is sent once more, in a fresh one."""
        clock = asyncio.get_running_loop()
        start_s = clock.time()
        fresh = self._streams is None
        status, raw = 0, b""
        try:
            async with asyncio.timeout(HANG_S):
                status, raw = await self._once(one)
        except TimeoutError:
            self.close()
            raw = f"no answer within {HANG_S:.0f} s".encode()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            if not fresh:
                return await self.shoot(one)
            raw = f"{type(error).__name__}: {error}".encode()
        if status == 200 and (inside := _IN_STREAM.search(raw)) is not None:
            status = int(inside[1])
        return Hit(status, clock.time() - start_s, raw[:_KEPT].decode(errors="replace"))

    def close(self) -> None:
        """The next shot opens another connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _once(self, one: Shot) -> tuple[int, bytes]:
        if self._streams is None:
            streams = asyncio.open_connection(self._host, self._port, limit=_MOST_HEAD)
            self._streams = await streams
        reader, writer = self._streams
        writer.write(self._request(one))
        if one.cut:  # promise the whole body, send a part, and go
            await writer.drain()
            self.close()
            return -1, b""
        status, raw, more = await _answer(reader)
        if not more:
            self.close()
        return status, raw

    def _request(self, one: Shot) -> bytes:
        lines = [f"{one.method} {one.path} HTTP/1.1", f"host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in one.headers.items()]
        lines += [f"content-length: {len(one.body)}", "", ""]
        return "\r\n".join(lines).encode() + one.body[: len(one.body) - one.cut]


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, fields = int(head.split(None, 2)[1]), dict(_fields(head))
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:size])
        await reader.readexactly(2)
        raw = b"".join(parts)
    elif b"content-length" in fields:
        raw = await reader.readexactly(int(fields[b"content-length"]))
    else:
        return status, await reader.read(), False
    return status, raw, fields.get(b"connection") != b"close"


def _fields(head: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [(name, value.strip()) for name, colon, value in pairs if colon]
