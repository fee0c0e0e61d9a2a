"""What does the measurer see when the truth is known? A server that follows a script to the token.

Each request names itself (`x-request-id: <run>-<index>`); its script says when which tokens are
written and how the answer ends. The server keeps what it really did: `writes_s[index]` holds the
time of every token on the event loop's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

Ending = Literal[
    "stop",
    "error_event",
    "busy_event",
    "disconnect",
    "silent_end",
    "abort",
    "reject_in_stream",
    "hang",
]
Counting = Literal["usage", "token_ids", "logprobs", "text"]
REJECT_STOP_REASON = "scorpio:ttft_infeasible?retry_after_ms=3000"


@dataclass(frozen=True)
class Script:
    """One answer. chunks: (delay in s after the previous one, tokens in it); split: bytes per
    network write (None = one write per event). then: the answer when it is asked again."""

    chunks: tuple[tuple[float, int], ...] = ((0.1, 1), (0.1, 1))
    header_delay_s: float = 0.0
    ending: Ending = "stop"
    counting: Counting = "usage"
    status: int = 200
    reject_header: tuple[str, str] | None = None
    split: int | None = None
    crlf: bool = False
    then: Script | None = None

    @property
    def tokens(self) -> int:
        return sum(count for _, count in self.chunks)


@dataclass
class GoldenServer:
    """An OpenAI-compatible server that plays scripts; requests without one get `default`."""

    scripts: Mapping[int, Script] = field(default_factory=dict)
    default: Script = field(default_factory=Script)
    writes_s: dict[int, list[float]] = field(default_factory=dict)
    received_s: dict[int, float] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, dict[str, Any]] = field(default_factory=dict)
    headers: dict[int, Mapping[str, str]] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def on_unix_socket(self, path: Path) -> AsyncIterator[str]:
        """Serve on a UNIX socket (exact in virtual time); yields the base URL."""
        async with self._running() as runner:
            await web.UnixSite(runner, str(path)).start()
            yield "http://golden"

    @contextlib.asynccontextmanager
    async def on_port(self) -> AsyncIterator[str]:
        """Serve on a free port of 127.0.0.1; yields the base URL."""
        async with self._running() as runner:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[web.AppRunner]:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        try:
            yield runner
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "golden"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        index = int(request.headers["x-request-id"].rpartition("-")[2])
        script = self.scripts.get(index, self.default)
        for _ in range(self.tries.setdefault(index, 0)):
            script = script.then or script
        self.tries[index] += 1
        self.received_s[index] = loop.time()
        self.bodies[index] = await request.json()
        self.headers[index] = request.headers
        await asyncio.sleep(script.header_delay_s)
        if script.status != 200:
            headers = dict([script.reject_header]) if script.reject_header else {}
            error = {
                "error": {"message": "predicted TTFT 2.4 s > SLO 0.5 s", "code": script.status}
            }
            return web.json_response(error, status=script.status, headers=headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        writer = _EventWriter(response, script)
        chat = request.path.endswith("chat/completions")
        await writer.raw(b": ping\n\n")
        if chat:
            await writer.event(_chunk(script, chat, 0, 0, {"role": "assistant", "content": ""}))
        written = 0
        for delay_s, count in script.chunks:
            await asyncio.sleep(delay_s)
            self.writes_s.setdefault(index, []).extend([loop.time()] * count)
            written += count
            await writer.event(_chunk(script, chat, written, count))
        await self._end(request, writer, chat, written)
        return response

    async def _end(
        self, request: web.Request, writer: _EventWriter, chat: bool, written: int
    ) -> None:
        script = writer.script
        await asyncio.sleep(0.5)  # the end comes well after the last token: it must not count
        if script.ending == "hang":
            await asyncio.sleep(1e6)
        if script.ending == "disconnect":
            if request.transport is not None:
                request.transport.abort()
            return
        if script.ending == "silent_end":
            return
        if script.ending == "error_event":
            await writer.event({"error": {"message": "engine died", "code": 500}})
        elif script.ending == "busy_event":
            await writer.event({"error": {"message": "engine is busy", "code": 503}})
        else:
            finish: dict[str, Any] = {"finish_reason": "length", "stop_reason": None}
            if script.ending in ("abort", "reject_in_stream"):
                reason = REJECT_STOP_REASON if script.ending == "reject_in_stream" else None
                finish = {"finish_reason": "abort", "stop_reason": reason}
            await writer.event(_chunk(script, chat, written, 0, finish=finish))
            usage = {"prompt_tokens": 7, "completion_tokens": written}
            await writer.event({"choices": [], "usage": usage})
        await writer.raw(b"data: [DONE]\n\n")


class _EventWriter:
    def __init__(self, response: web.StreamResponse, script: Script) -> None:
        self._response = response
        self.script = script

    async def event(self, payload: dict[str, Any]) -> None:
        await self.raw(f"data: {json.dumps(payload)}\n\n".encode())

    async def raw(self, data: bytes) -> None:
        if self.script.crlf:
            data = data.replace(b"\n", b"\r\n")
        size = self.script.split or len(data)
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])


def _chunk(
    script: Script,
    chat: bool,
    written: int,
    count: int,
    delta: dict[str, Any] | None = None,
    finish: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One stream chunk with `count` new tokens, counted the way the script says."""
    text = "x " * count
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, **(finish or {})}
    if chat:
        choice["delta"] = delta if delta is not None else {"content": text}
    else:
        choice["text"] = text
    payload: dict[str, Any] = {"choices": [choice]}
    if script.counting == "usage":
        payload["usage"] = {"prompt_tokens": 7, "completion_tokens": written}
    elif script.counting == "token_ids":
        choice["token_ids"] = list(range(count))
    elif script.counting == "logprobs":
        key = "content" if chat else "tokens"
        choice["logprobs"] = {key: ["x"] * count}
    return payload
