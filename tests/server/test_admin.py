"""Who may switch the policy, and what does the status say?"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.registry import policy_names
from scorpio.server.answers import Answer
from scorpio.server.context import ServerContext
from scorpio.server.state import admin
from tests.server.asgi import Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, client

GOOD = {"authorization": "Bearer sesame"}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


async def call(
    run_dir: Path | None,
    method: str,
    path: str,
    body: Any = b"",
    headers: Any = GOOD,
    config: Mapping[str, Any] | None = None,
) -> Reply:
    config = dict(config or {}) | ({} if run_dir is None else {"run_dir": str(run_dir)})
    server = FakeServer(FakeEngine(), config)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await client(server).request(method, path, raw, headers)
    assert server.bodies == []  # never reaches vLLM
    return reply


async def test_put_writes_the_wish(tmp_path: Path) -> None:
    for seq in (1, 2):
        body = {"policy": "scorpio", "options": {"patience_s": 1.5}}
        reply = await call(tmp_path, "PUT", "/scorpio/policy", body)
        assert reply.status == 200
        assert reply.json()["control_seq"] == seq
    control = channel.read_control(tmp_path)
    assert control == channel.Control("scorpio", {"patience_s": 1.5}, False, 2)


async def test_a_switch_away_and_back_keeps_the_options_of_the_start(tmp_path: Path) -> None:
    started = {"policy": "scorpio", "policy_options": {"patience_s": 7.0}}
    status = (await call(tmp_path, "GET", "/scorpio/status", config=started)).json()
    assert status["policy_options"] == {"patience_s": 7.0}
    for body, options in (
        ({"policy": "fcfs"}, {}),
        ({"policy": "scorpio"}, {"patience_s": 7.0}),
        ({"policy": "scorpio", "record_steps": True}, {"patience_s": 7.0}),
        ({"policy": "scorpio", "options": {}}, {}),
    ):
        reply = await call(tmp_path, "PUT", "/scorpio/policy", body, config=started)
        assert (reply.status, reply.json()["options"]) == (200, options)
        control = channel.read_control(tmp_path)
        assert control is not None
        assert control.options == options


async def test_status_before_and_after_the_engine_spoke(tmp_path: Path) -> None:
    before = (await call(tmp_path, "GET", "/scorpio/status", headers={})).json()
    assert before["engine_reported"] is False
    assert before["policies"] == list(policy_names())
    channel.write_control(tmp_path, "fcfs")
    channel.write_status(tmp_path, {"policy": "scorpio-paper", "control_seq": 0, "waiting": 3})
    after = (await call(tmp_path, "GET", "/scorpio/status", headers={})).json()
    assert (after["policy"], after["waiting"]) == ("scorpio-paper", 3)
    assert (after["requested_policy"], after["requested_control_seq"]) == ("fcfs", 1)


async def test_status_without_run_dir() -> None:
    status = (await call(None, "GET", "/scorpio/status")).json()
    assert (status["engine_reported"], status["requested_control_seq"]) == (False, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "sesame"},
        {"authorization": "Basic sesame"},
        {"authorization": "Bearer sesam\xe9"},
    ],
)
async def test_401_without_the_token(tmp_path: Path, headers: dict[str, str]) -> None:
    reply = await call(tmp_path, "PUT", "/scorpio/policy", {"policy": "fcfs"}, headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "SCORPIO_ADMIN_TOKEN" in reply.json()["error"]["message"]
    assert channel.read_control(tmp_path) is None


async def test_403_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCORPIO_ADMIN_TOKEN")
    for headers in ({}, GOOD, {"authorization": "Bearer "}):
        reply = await call(tmp_path, "PUT", "/scorpio/policy", {"policy": "fcfs"}, headers)
        assert reply.status == 403
        assert "SCORPIO_ADMIN_TOKEN" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        ([], "keys out of"),
        ({"policy": "fcfs", "x": 1}, "keys out of"),
        ({}, "fcfs"),
        ({"policy": "nope"}, "scorpio-paper"),
        ({"policy": ["fcfs"]}, "scorpio-paper"),
        ({"policy": "fcfs", "options": [1]}, "options"),
        ({"policy": "fcfs", "options": {"a": "1"}}, "options"),
        ({"policy": "fcfs", "options": {"a": True}}, "options"),
        ({"policy": "fcfs", "options": {"a": float("nan")}}, "options"),
        ({"policy": "fcfs", "options": {"a": 10**400}}, "options"),
        ({"policy": "fcfs", "record_steps": 1}, "record_steps"),
        ({"policy": "fcfs", "options": {"kappa": 1}}, "fcfs has no option kappa"),
        ({"policy": "scorpio", "options": {"patience": 1}}, "patience_s"),
        ({"policy": "scorpio", "options": {"patience_s": -1}}, "must be in"),
        ({"policy": "scorpio-paper", "options": {"nope": 1}}, "nope"),
    ],
)
async def test_400_says_what_is_allowed(tmp_path: Path, body: Any, said: str) -> None:
    reply = await call(tmp_path, "PUT", "/scorpio/policy", body)
    assert reply.status == 400
    assert said in reply.json()["error"]["message"]
    assert channel.read_control(tmp_path) is None


async def test_409_without_run_dir() -> None:
    assert (await call(None, "PUT", "/scorpio/policy", {"policy": "fcfs"})).status == 409


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/scorpio/status", "GET"), ("GET", "/scorpio/policy", "PUT")],
)
async def test_405(tmp_path: Path, method: str, path: str, allowed: str) -> None:
    reply = await call(tmp_path, method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


async def test_generation_answers_name_the_policy(tmp_path: Path) -> None:
    channel.write_status(tmp_path, {"policy": "fcfs"})
    from tests.server.fake_vllm import tokens

    server = FakeServer(FakeEngine([tokens(1)]), {"run_dir": str(tmp_path)})
    reply = await client(server).request("POST", "/v1/completions", b"{}")
    assert reply.headers["x-scorpio-policy"] == "fcfs"


async def test_a_status_is_made_on_the_thread_on_which_its_numbers_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another one it would find half of a change, and change things itself (the status that was
    read last)."""
    made: list[int] = []

    def noted(server: ServerContext) -> Answer:
        made.append(threading.get_ident())
        return Answer(200, b"{}", {})

    monkeypatch.setattr(admin, "status_answer", noted)
    assert (await call(tmp_path, "GET", "/scorpio/status")).status == 200
    assert made == [threading.get_ident()]
