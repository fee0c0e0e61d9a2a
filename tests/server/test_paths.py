"""Does every spelling of a path, and every file in run_dir, get the answer it should?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette._utils import get_route_path
from starlette.types import Scope

from scorpio import channel
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.request.endpoints import route_path, routed
from tests.server.asgi import Client, Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens
from tests.server.posting import CHAT, CONFIG

PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("root", "path", "wanted"),
    [
        ("", PATH, PATH),
        ("/", PATH, PATH),
        ("/v", PATH, PATH),  # no front of this path: Starlette leaves it alone
        ("/api", "/api" + PATH, PATH),
        ("/api/", "/api" + PATH, PATH),
        ("/api", PATH, PATH),  # a proxy has cut it off already
        ("/api", "/apiv1", "/apiv1"),
        ("/api", "/api", ""),
    ],
)
def test_the_path_is_the_one_that_starlette_looks_up(root: str, path: str, wanted: str) -> None:
    scope = routed({"type": "http", "path": path, "root_path": root})
    assert route_path(scope) == wanted == get_route_path(scope)
    # what vLLM's API-key check looks at
    assert path.removeprefix(scope["root_path"]) == wanted


@pytest.mark.parametrize("root", ["/", "/v", "/api/"])
async def test_a_root_path_passes_neither_the_slo_nor_the_key(root: str) -> None:
    path = root.rstrip("/") + PATH if root == "/api/" else PATH
    server = FakeServer(FakeEngine([tokens(1)]), CONFIG)
    reply = await _ask(server, "POST", path, {"x-slo-ttft-ms": "fast"}, root)
    assert reply.status == 400
    server = FakeServer(FakeEngine([tokens(1)]), CONFIG, api_keys=["sesame"])
    reply = await _ask(server, "POST", path, {"x-slo-ttft-ms": "fast"}, root)
    assert reply.status == 200  # left to vLLM's 401 ...
    (scope,) = server.scopes  # ... which it gives, for it sees the guarded path
    assert scope["path"].removeprefix(scope["root_path"]).startswith("/v1")


async def _ask(
    server: FakeServer, method: str, path: str, headers: dict[str, str], root: str = ""
) -> Reply:
    inner = ScorpioMiddleware(server)

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": root}, receive, send)

    body = json.dumps(CHAT).encode() if method == "POST" else b""
    return await Client(app, server).request(method, path, body, headers)


@pytest.mark.parametrize("policy", ["größer", "政策", "a\r\nset-cookie: x", "\ud800"])
async def test_any_policy_name_in_the_status_fits_into_headers(policy: str, tmp_path: Path) -> None:
    channel.write_status(tmp_path, {"policy": policy})
    server = FakeServer(FakeEngine([tokens(1) for _ in range(2)]), {"run_dir": str(tmp_path)})
    reply = await _ask(server, "POST", PATH, {})
    assert reply.status == 200
    assert reply.headers["x-scorpio-policy"].isprintable()
    for path in ("/metrics", "/scorpio/status"):
        assert (await _ask(server, "GET", path, {})).status == 200


async def test_a_run_dir_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    server = FakeServer(FakeEngine([tokens(1)]), {"run_dir": str(tmp_path / "gone")})
    bearer = {"authorization": "Bearer sesame"}
    put = client(server).request("PUT", "/scorpio/policy", b'{"policy": "fcfs"}', bearer)
    reply = await put
    assert (reply.status, reply.complete) == (409, True)
    assert "run_dir" in reply.json()["error"]["message"]
    assert (await _ask(server, "GET", "/scorpio/status", {})).status == 200
    assert (await _ask(server, "GET", "/metrics", {})).status == 200


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**400)
    | st.text(st.characters(exclude_categories=()), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_KEYS = ["policy", "by_class", "none", "schedule_us", "forecast_error", "waiting", "seq", "options",
         "policy_version", "ttft_slack", "outcomes", "p50"]  # fmt: skip
_STATUS = st.dictionaries(
    st.sampled_from(_KEYS), _JSON | st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=3)
).map(lambda status: json.dumps(status).encode())
_DEEP = st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"", b"\xff", b"{}"])


@settings(max_examples=80, deadline=None)
@given(status=_STATUS | _DEEP, control=_STATUS | _DEEP)
def test_any_file_in_run_dir_is_read_or_ignored(
    status: bytes, control: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / channel.STATUS).write_bytes(status)
    (run_dir / channel.CONTROL).write_bytes(control)
    server = FakeServer(FakeEngine([tokens(1)]), {"run_dir": str(run_dir)})
    for method, path in (("GET", "/scorpio/status"), ("GET", "/metrics"), ("POST", PATH)):
        server.engine.answers = [tokens(1)]
        reply = asyncio.run(_ask(server, method, path, {}))
        assert (reply.status, reply.complete) == (200, True)
