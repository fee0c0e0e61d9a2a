"""A real engine with features that Scorpio does not support: with `--unsupported passthrough` it is
served as stock vLLM, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.engine_server import OWN_ENGINE_MARKS, EngineServer, serving

pytestmark = OWN_ENGINE_MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("passthrough")
    options = (
        *("--unsupported", "passthrough", "--scheduling-policy", "priority"),
        *("--no-scheduler-reserve-full-isl", "--distributed-executor-backend", "uni"),
    )
    with serving(directory, *options) as made:
        yield made


def test_it_serves_what_it_does_not_plan(server: EngineServer) -> None:
    body = {"model": "tiny", "prompt": "again and again and again and", "max_tokens": 64}
    body |= {"temperature": 0, "priority": 1, "vllm_xargs": {"slo_class": "hopeless"}}
    code, headers, raw = server.call("POST", "/v1/completions", body)
    assert (code, headers["x-scorpio-policy"]) == (200, "fcfs")
    assert json.loads(raw)["usage"]["completion_tokens"] == 64
    server.wait_for(lambda: server.status()["finished_by_state"] == {"finished": 1}, "its end")
    status = server.status()
    assert status["passthrough"] is True
    assert "no-scheduler-reserve-full-isl" in status["unsupported_features"]
    assert "priority scheduling" in status["unsupported_features"]
    assert status["by_class"]["hopeless"]["violations"]["ttft"] == 1
    assert status["faults"] == {}
    _, _, metrics = server.call("GET", "/metrics")
    assert b'scorpio_passthrough{engine="0",model_name="tiny"} 1.0' in metrics
