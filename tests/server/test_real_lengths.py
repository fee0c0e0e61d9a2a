"""Real vLLM: do outcomes of every kind of answer reach the ladder, and only those that ended?"""

from __future__ import annotations

import re

import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer

pytestmark = ENGINE_MARKS


def counters(server: EngineServer) -> dict[str, float]:
    page = server.call("GET", "/metrics")[2].decode()
    found = re.findall(r"^(scorpio_length_\w+)\{[^}]*\} (\S+)$", page, re.M)
    return {name: float(value) for name, value in found}


@pytest.mark.parametrize("stream", [False, True])
def test_outcomes_reach_the_ladder(engine_server: EngineServer, stream: bool) -> None:
    before = counters(engine_server)
    base = {"model": engine_server.model, "max_tokens": 5, "stream": stream}
    forged = {"vllm_xargs": {"predicted_output_tokens": 3, "predicted_output_quantiles": [1, 2, 3]}}
    chat = base | forged | {"messages": [{"role": "user", "content": "How long is this?"}]}
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/v1/completions", base | {"prompt": "abc", "n": 2}),
        ("/v1/completions", base | {"prompt": [1, 2, 3], "ignore_eos": True}),  # fixed: not learned
    ):
        assert engine_server.call("POST", path, body)[0] == 200
    after = counters(engine_server)
    name = "scorpio_length_outcomes_total"
    assert after[name] - before[name] == 3
    assert after["scorpio_length_failures_total"] == 0
    assert after["scorpio_length_prediction_seconds_count"] > 0
