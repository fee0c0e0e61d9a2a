"""A KV connector on the real engine: vLLM's own that keeps KV in files. The same greedy tokens as
from KV that was computed, whichever policy decides.

It keeps what the first step of a prompt computes, so steps here hold whole prompts; and the second
prompt of one token ends the engine (it tells vLLM of -128 tokens), so there is none here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scorpio.live.control.scrape import scrape
from tests.engine_server import NO_PREFIX_CACHING, OWN_ENGINE_MARKS, EngineServer, serving

pytestmark = OWN_ENGINE_MARKS
LOADED = "vllm:external_prefix_cache_hits_total"
TOKENS = 12
PROMPTS = [[word] * 150 + list(range(20, 50)) for word in (11, 12, 13, 14)]  # ids of the tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kv")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[EngineServer]:
    transfer = {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(files)},
    }
    options = (
        *("--policy", "scorpio", "--policy-option", "light_share=0"),  # it plans every step
        *("--kv-transfer-config", json.dumps(transfer), NO_PREFIX_CACHING),
        *("--max-num-seqs", "8", "--max-num-batched-tokens", "512"),
    )
    with serving(tmp_path_factory.mktemp("connector"), *options) as made:
        yield made


def ask(server: EngineServer, row: int) -> list[int]:
    body = {"model": "tiny", "prompt": PROMPTS[row % 4], "max_tokens": TOKENS, "temperature": 0}
    body |= {"ignore_eos": True, "return_token_ids": True}
    body |= {"vllm_xargs": {"slo_ttft_ms": 60_000.0, "slo_tpot_ms": (200.0, 60_000.0)[row % 2]}}
    code, _, raw = server.call("POST", "/v1/completions", body)
    assert code == 200, raw
    return list(json.loads(raw)["choices"][0]["token_ids"])


@pytest.fixture(scope="module")
def computed(server: EngineServer, files: Path) -> list[list[int]]:
    """One at a time, stock scheduling, nothing kept yet."""
    server.switch("fcfs")
    answers = [ask(server, row) for row in range(4)]
    assert any(files.iterdir())
    return answers


@pytest.mark.parametrize("policy", ["fcfs", "scorpio", "scorpio-paper", "qoserve"])
def test_same_tokens_from_files(
    server: EngineServer, computed: list[list[int]], policy: str
) -> None:
    server.switch(policy)
    loaded, planned = scrape(server.url)[LOADED], server.status()["planned_steps"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: ask(server, row), range(16)))
    assert answers == [computed[row % 4] for row in range(16)]
    assert scrape(server.url)[LOADED] - loaded >= 16 * 128
    status = server.status()
    assert status["running"] == status["waiting"] == 0
    assert (status["passthrough"], status["fallbacks"], status["faults"]) == (False, 0, {})
    assert (status["planned_steps"] > planned) is (policy != "fcfs")
