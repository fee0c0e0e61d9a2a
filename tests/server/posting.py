"""One request with headers and a body: what arrives at vLLM?"""

from __future__ import annotations

import json
from typing import Any

from tests.server.asgi import Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens

CONFIG = {
    "classes": {
        "interactive": {"ttft_ms": 500, "tpot_ms": 50},
        "standard": {"ttft_ms": 2000},
        "batch": {"e2el_ms": 60000, "on_miss": "degrade"},
    }
}
WITH_DEFAULT = CONFIG | {"default_class": "standard"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"


async def post(
    body: Any,
    headers: Any = (),
    config: dict[str, Any] | None = None,
    path: str = PATH,
    **server_args: Any,
) -> tuple[Reply, FakeServer]:
    server = FakeServer(
        FakeEngine([tokens(1)]), CONFIG if config is None else config, **server_args
    )
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client(server).request("POST", path, raw, headers), server


async def xargs(
    body: Any, headers: Any = (), config: dict[str, Any] | None = None, **server_args: Any
) -> dict[str, Any]:
    reply, server = await post(body, headers, config, **server_args)
    assert reply.status == 200, reply.body
    return dict(server.body.get("vllm_xargs") or {})
