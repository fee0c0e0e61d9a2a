"""Drives an ASGI app the way uvicorn does, and keeps every message it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Reply:
    """What came out. `sent` are the raw messages in order."""

    sent: list[Message] = field(default_factory=list)

    @property
    def starts(self) -> list[Message]:
        return [m for m in self.sent if m["type"] == "http.response.start"]

    @property
    def status(self) -> int:
        assert len(self.starts) == 1, f"{len(self.starts)} response starts"
        assert self.sent[0]["type"] == "http.response.start"
        return int(self.starts[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.starts[0]["headers"]}

    @property
    def chunks(self) -> list[bytes]:
        return [m.get("body", b"") for m in self.sent if m["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def complete(self) -> bool:
        bodies = [m for m in self.sent if m["type"] == "http.response.body"]
        ends = [not m.get("more_body", False) for m in bodies]
        return bool(ends) and ends[-1] and not any(ends[:-1])

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One request. `leave()` is the client's disconnect; chunks may be sent in parts."""

    def __init__(self, app: ASGIApp, application: Any) -> None:
        self._app = app
        self._application = application
        self.reply = Reply()
        self.left = asyncio.Event()

    def leave(self) -> None:
        self.left.set()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | Sequence[tuple[bytes, bytes]] = (),
        json_type: bool = True,
    ) -> Reply:
        parts = [body] if isinstance(body, bytes) else list(body)
        pairs = headers.items() if isinstance(headers, Mapping) else ()
        raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in pairs]
        raw += [] if isinstance(headers, Mapping) else list(headers)
        if json_type:
            raw.append((b"content-type", b"application/json"))
        raw.append((b"content-length", str(sum(map(len, parts))).encode()))

        async def receive() -> Message:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.reply.sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path.partition("?")[0],
            "query_string": path.partition("?")[2].encode(),
            "headers": raw,
            "root_path": "",
            "app": self._application,
        }
        await self._app(scope, receive, send)
        return self.reply
