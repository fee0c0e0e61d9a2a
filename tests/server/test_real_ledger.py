"""Can any id that a client sees be explained on the real server, and is no text of it kept?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from tests.engine_server import ENGINE_MARKS, EngineServer
from workloads.traces.trace import read_trace

pytestmark = ENGINE_MARKS
CANARY = "canary-5f1c"
MESSAGES = {"messages": [{"role": "user", "content": f"{CANARY} hello"}]}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": f"{CANARY} hello", "max_tokens": 4},
    "/v1/chat/completions": MESSAGES | {"max_tokens": 4, "user": f"{CANARY}-user"},
    "/v1/responses": {"input": f"{CANARY} hello", "max_output_tokens": 4},
    "/v1/messages": MESSAGES | {"max_tokens": 4},
}
SECRETS = {
    "authorization": f"Bearer {CANARY}-key",
    "x-llm-d-inference-fairness-id": f"{CANARY}-tenant",
}


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stdout + result.stderr


def explained(server: EngineServer, request_id: str) -> str:
    """A line is there a moment after its request has ended."""
    end_s = time.monotonic() + 60.0
    while True:
        code, said = run("explain", request_id, "--run-dir", str(server.run_dir))
        if code == 0 or time.monotonic() > end_s:
            assert code == 0, said
            return said
        time.sleep(0.1)


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_the_id_of_an_answer_and_of_a_refusal(server: EngineServer, path: str) -> None:
    body = ROUTES[path] | {"model": server.model}
    code, _, raw = server.call("POST", path, body, SECRETS | {"x-slo-ttft-ms": "60000"})
    assert code == 200
    served = explained(server, json.loads(raw)["id"])
    assert ": served, in time." in served.splitlines()[0]
    assert "It got 4 tokens" in served
    code, headers, raw = server.call("POST", path, body, SECRETS | {"x-slo-ttft-ms": "1"})
    assert code == 429
    refused = json.loads(raw)
    name = headers["x-scorpio-request-id"]
    assert name == (refused if path == "/v1/messages" else refused["error"])["request_id"]
    told = explained(server, name)
    assert "refused after" in told.splitlines()[0]
    assert (
        f"Its first token was predicted after {headers['x-scorpio-attainable-ttft-ms'][0]}" in told
    )
    assert "not to try again" in told


def test_a_client_may_name_its_request(server: EngineServer) -> None:
    body = ROUTES["/v1/completions"] | {"model": server.model, "prompt": ["a", "b"]}
    assert server.call("POST", "/v1/completions", body, {"x-request-id": "mine-1"})[0] == 200
    end_s = time.monotonic() + 60.0
    while (said := explained(server, "mine-1")).count("cmpl-~") < 2:
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert said.count(": served.") == 2  # one for each prompt


def test_no_text_of_a_client_is_kept(server: EngineServer, tmp_path: Path) -> None:
    test_the_id_of_an_answer_and_of_a_refusal(server, "/v1/chat/completions")
    files = list(server.run_dir.iterdir())
    assert {"ledger.jsonl", "ledger.salt"} <= {file.name for file in files}
    assert not [file for file in files if CANARY in file.read_text()]
    out = tmp_path / "mine.jsonl"
    code, said = run("record", "--run-dir", str(server.run_dir), "--out", str(out))
    assert code == 0, said
    assert len(read_trace(out)) >= 2
    assert CANARY not in out.read_text()
    status = server.status()
    assert (status["ledger_lines"] >= 2, status["ledger_dropped"]) == (True, 0)
