"""Do keys, limits and new classes hold on the real server, without a restart?"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.tenant_settings import key_line
from tests.engine_server import ENGINE_MARKS, EngineServer, own_slo_file
from tests.server.keyed import ACME, BETA, bearer

pytestmark = ENGINE_MARKS
TENANTS = f"""
[classes.brand_new]
ttft_ms = 50000
target = 0.5

[tenants.acme]
keys = ["{key_line(ACME)}"]
classes = ["brand_new"]
default_class = "brand_new"
weight = 3

[tenants.beta]
keys = ["{key_line(BETA)}"]
rate_tokens_per_s = 0.01
burst_tokens = 1
"""


@pytest.fixture
def slo_file(engine_server: EngineServer) -> Iterator[Path]:
    """The server's own file."""
    with own_slo_file(engine_server) as file:
        yield file


def ask(
    server: EngineServer, key: str | None, **more: Any
) -> tuple[int, dict[str, str], dict[str, Any]]:
    body = {"model": server.model, "prompt": "a b c", "max_tokens": 4, **more}
    headers = {} if key is None else bearer(key)
    status, told, raw = server.call("POST", "/v1/completions", body, headers)
    return status, told, json.loads(raw)


def reload(server: EngineServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", server.admin_token)
    done = CliRunner().invoke(app, ["reload", "--url", server.url])
    return done.stdout + done.stderr


def test_tenants_come_and_go_while_it_serves(
    engine_server: EngineServer, slo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, before = engine_server, slo_file.read_text()
    assert ask(server, None)[0] == 200
    slo_file.write_text(before + TENANTS)
    assert reload(server, monkeypatch) == "changed: classes, tenants\n"

    assert ask(server, None)[0] == 401
    assert server.call("GET", "/v1/models")[0] == 401
    assert server.call("GET", "/health")[0] == 200
    assert server.call("POST", "/reset_prefix_cache", b"", bearer(ACME))[0] == 401
    assert ask(server, ACME)[0] == 200
    assert ask(server, ACME, vllm_xargs={"slo_class": "hopeless"})[0] == 403
    messages = {
        "model": server.model,
        "max_tokens": 2,
        "messages": [{"role": "user", "content": "a"}],
    }
    assert server.call("POST", "/v1/messages", messages, {"x-api-key": ACME})[0] == 200

    # the engine, which was started without it, counts the new class
    def counted() -> bool:
        found = server.status().get("by_class", {}).get("brand_new", {})
        return bool(found.get("outcomes", {}).get("finished") == found.get("good") == 2)

    server.wait_for(counted, "two requests of the new class")

    def kept() -> bool:  # a sample is taken every few seconds
        lately = server.status()["error_budgets"]["brand_new"]["5m"]
        return bool((lately["good"], lately["attainment"]) == (2, 1.0))

    server.wait_for(kept, "a sample of what was kept")
    status = server.status()
    assert status["tenants"]["acme"]["output_tokens"] in range(2, 7)
    assert status["tenants"]["acme"]["prompt_tokens"] > 4

    assert ask(server, BETA)[0] == 200
    code, told, body = ask(server, BETA)
    assert (code, told["x-scorpio-reject-reason"]) == (429, "over_rate")
    assert int(told["retry-after"]) > 30
    assert body["error"]["code"] == 429


def test_a_bad_file_and_sighup(
    engine_server: EngineServer, slo_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, before = engine_server, slo_file.read_text()
    slo_file.write_text(before + "\n[classes.worse]\nttft_ms = -1\n")
    said = reload(server, monkeypatch)
    number = len(slo_file.read_text().splitlines())
    assert f"line {number}: classes.worse.ttft_ms" in said
    assert ask(server, None)[0] == 200

    slo_file.write_text(before + "\n[classes.better]\n")
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait_for(lambda: "better" in server.status()["classes"], "SIGHUP")
    assert server.status()["slo_config"]["error"] == ""

    def acts() -> list[dict[str, str]]:
        lines = (server.run_dir / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def written() -> bool:  # after it is in force
        return (acts()[-1]["act"], acts()[-1]["remote"]) == ("config", "SIGHUP")

    server.wait_for(written, "the line of SIGHUP")
    assert server.admin_token not in json.dumps(acts())
    assert ask(server, None)[0] == 200
