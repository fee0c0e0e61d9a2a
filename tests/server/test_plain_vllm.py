"""Does the documented command line of plain vLLM give the same server? With API keys, a root path
and Prometheus' multiprocess mode, which the shared server does not have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorpio.server.launch.serve_args import MIDDLEWARE, SCHEDULER
from tests.engine_server import MAX_MODEL_LEN, OWN_ENGINE_MARKS, PROFILE, EngineServer, running

pytestmark = OWN_ENGINE_MARKS
KEY = {"authorization": "Bearer sesame"}
BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
HOPELESS = {"x-slo-ttft-ms": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("plain_vllm")
    (directory / "run").mkdir()
    (directory / "prometheus").mkdir()
    ours = {
        "policy": "scorpio-paper",
        "run_dir": str(directory / "run"),
        "latency": PROFILE.to_dict(),
        "classes": {"chat": {"ttft_ms": 60000}},
        "isolate_cache": True,
    }
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(tiny_model), "--served-model-name", "tiny"),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", str(MAX_MODEL_LEN)),
        *("--distributed-executor-backend", "uni", "--api-key", "sesame", "other"),
        # with this one vLLM alone would check no key at all
        *("--root-path", "/", "--enable-prompt-tokens-details"),
        *("--scheduler-cls", SCHEDULER, "--middleware", MIDDLEWARE),
        *("--additional-config", json.dumps({"scorpio": ours})),
    ]
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory / "prometheus")}
    with running(directory, command, env) as made:
        yield made


def test_it_serves_and_refuses(server: EngineServer) -> None:
    code, headers, _ = server.call("POST", "/v1/completions", BODY, KEY)
    assert (code, headers["x-scorpio-policy"]) == (200, "scorpio-paper")
    for stream in (False, True):
        body = BODY | {"stream": stream}
        code, headers, _ = server.call("POST", "/v1/completions", body, KEY | HOPELESS)
        assert (code, headers["x-scorpio-reject-reason"]) == (429, "ttft_infeasible")


def test_no_key_finds_the_prompts_of_another_in_the_cache(server: EngineServer) -> None:
    other = {"authorization": "Bearer other"}
    body = BODY | {"prompt": [3 + i % 200 for i in range(400)]}

    def cached(headers: dict[str, str], **more: object) -> int:
        code, _, raw = server.call("POST", "/v1/completions", body | more, headers)
        assert code == 200, raw
        details = json.loads(raw)["usage"]["prompt_tokens_details"] or {}
        return int(details.get("cached_tokens") or 0)

    assert cached(KEY) == 0
    assert cached(KEY) > 0
    assert cached(KEY, user="any") > 0
    assert cached(other) == 0
    assert cached(other, cache_salt="key-0") == 0
    assert cached(KEY) > 0


def test_without_the_api_key_the_answer_is_vllms(server: EngineServer) -> None:
    for headers in ({}, {"x-slo-ttft-ms": "nonsense"}):
        code, _, raw = server.call("POST", "/v1/completions", BODY, headers)
        assert (code, json.loads(raw)) == (401, {"error": "Unauthorized"})
    code, _, raw = server.call("POST", "/v1/completions", BODY, KEY | {"x-slo-ttft-ms": "nonsense"})
    assert (code, json.loads(raw)["error"]["param"]) == (400, "x-slo-ttft-ms")


def test_metrics_in_multiprocess_mode(server: EngineServer) -> None:
    server.call("POST", "/v1/completions", BODY, KEY | {"x-slo-ttft-ms": "nonsense"})
    server.call("POST", "/v1/completions", BODY, KEY)
    code, headers, raw = server.call("GET", "/metrics", headers={"accept-encoding": "gzip"})
    assert (code, headers["content-length"]) == (200, str(len(raw)))
    for name in (
        b"vllm:num_requests_waiting",
        b"scorpio_policy_info",
        b"scorpio_malformed_requests_total",
    ):
        assert name in raw


def test_policy_switch(server: EngineServer) -> None:
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    code, _, raw = server.call("PUT", "/scorpio/policy", {"policy": "fcfs"}, bearer)
    assert code == 200

    def active() -> bool:
        server.call("POST", "/v1/completions", BODY, KEY)
        return bool(server.status()["control_seq"] == json.loads(raw)["control_seq"])

    server.wait_for(active, "fcfs")
    assert server.call("POST", "/v1/completions", BODY, KEY | HOPELESS)[0] == 200
