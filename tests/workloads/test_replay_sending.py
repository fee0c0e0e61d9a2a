"""What does the client send, and in what form?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.workloads.golden_runs import STYLE, measure, ready, request
from tests.workloads.golden_server import GoldenServer
from workloads.replay.request_body import RequestStyle, prepare
from workloads.results.records import Outcome


def test_what_is_sent(tmp_path: Path) -> None:
    server = GoldenServer()
    prepared = ready([request(0, tenant="acme", e2e_slo_s=9.0), request(1, ttft_slo_s=math.inf)])
    measure(server, prepared, tmp_path)
    assert server.bodies[0] == {
        "model": "golden",
        "prompt": [1, 2, 3],
        "max_tokens": 2,
        "min_tokens": 2,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert server.headers[0]["x-slo-ttft-ms"] == "500.0"
    assert server.headers[0]["x-slo-tpot-ms"] == "50.0"
    assert server.headers[0]["x-slo-e2el-ms"] == "9000.0"
    assert server.headers[0]["x-llm-d-inference-fairness-id"] == "acme"
    assert "x-slo-ttft-ms" not in server.headers[1]
    assert "x-llm-d-inference-objective" not in server.headers[1]


def test_slos_in_the_body_and_a_plain_openai_server() -> None:
    in_body = RequestStyle(
        model="m", slo_carrier="xargs", send_class=True, headers={"Authorization": "Bearer k"}
    )
    prepared = prepare(request(0, tenant="acme"), "hello", in_body)
    assert b'"vllm_xargs": {"slo_ttft_ms": 500.0, "slo_tpot_ms": 50.0, "slo_class": "chat"' in (
        prepared.body
    )
    assert not any(name.startswith("x-slo") for name in prepared.headers)
    assert prepared.headers["Authorization"] == "Bearer k"
    plain = prepare(
        request(0), "hi", RequestStyle(model="m", slo_carrier="none", vllm_fields=False)
    )
    assert b"ignore_eos" not in plain.body
    assert b"continuous" not in plain.body
    assert b"slo" not in plain.body


def test_chat_needs_text() -> None:
    with pytest.raises(ValueError, match="prompt as text"):
        prepare(request(0), [1, 2], RequestStyle(model="m", mode="chat"))


def test_a_body_of_several_megabytes_arrives(tmp_path: Path) -> None:
    server = GoldenServer()
    prepared = prepare(request(0), [12345] * 400_000, STYLE)
    record = measure(server, [prepared], tmp_path)[0]
    assert record.outcome is Outcome.FINISHED
    assert len(server.bodies[0]["prompt"]) == 400_000
