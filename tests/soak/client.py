"""What became of one request? Sends it, leaves when it should, and times what comes back."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass

import aiohttp

from tests.soak.mix import SoakRequest
from workloads.replay.sse import SseSplitter

ANSWER_TIMEOUT_S = 120.0
_REASON = "x-scorpio-reject-reason"
_ERROR_MARKS = (b'"error":', b'"type":"error"')


class How(enum.Enum):
    """How a request ended, as its client saw it."""

    FINISHED = "finished"
    REFUSED = "refused"
    ABORTED = "aborted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ended:
    """first_s: to the first event of a stream; end_s: to the last byte; error: of a failed one."""

    how: How
    first_s: float | None = None
    end_s: float = 0.0
    error: str = ""


async def send(session: aiohttp.ClientSession, url: str, request: SoakRequest) -> Ended:
    """Send one request and see it to its end. Never raises for what the server does."""
    started_s = asyncio.get_running_loop().time()
    patience_s = ANSWER_TIMEOUT_S if request.abort_after_s is None else request.abort_after_s
    try:
        async with asyncio.timeout(patience_s):
            return await _answer(session, url, request, started_s)
    except TimeoutError:
        if request.abort_after_s is not None:
            return Ended(How.ABORTED)
        return Ended(How.FAILED, error=f"no end within {ANSWER_TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Ended(How.FAILED, error=f"{type(error).__name__}: {error}")


async def _answer(
    session: aiohttp.ClientSession, url: str, request: SoakRequest, started_s: float
) -> Ended:
    clock = asyncio.get_running_loop()
    async with session.post(url + request.path, json=request.body, headers=request.headers) as got:
        if got.status != 200:
            text = (await got.content.read(300)).decode(errors="replace")
            if got.status in (429, 503) and _REASON in got.headers:
                return Ended(How.REFUSED, end_s=clock.time() - started_s)
            return Ended(How.FAILED, error=f"HTTP {got.status}: {text}")
        first_s: float | None = None
        if not request.stream:
            await got.read()
            return Ended(How.FINISHED, None, clock.time() - started_s)
        splitter = SseSplitter()
        async for chunk in got.content.iter_any():
            if first_s is None:
                first_s = clock.time() - started_s
            for _, data in splitter.feed(chunk):
                if data.startswith(b"{") and any(mark in data[:60] for mark in _ERROR_MARKS):
                    return Ended(How.FAILED, error=data[:300].decode(errors="replace"))
        return Ended(How.FINISHED, first_s, clock.time() - started_s)
