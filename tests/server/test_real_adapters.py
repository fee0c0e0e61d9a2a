"""LoRA on the real engine: two adapters, one place. Do policies that let rows sit out serve both?

vLLM asserts that no step holds more adapters than `--max-loras`; the scheduler keeps the place of
one whose requests sit a step out (`scorpio/core/lora.py`). Were it lost, the engine would die.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from scorpio.models.tiny import HEAD_DIM, HEADS, HIDDEN, LAYERS
from tests.engine_server import (
    MAX_MODEL_LEN,
    OWN_ENGINE_MARKS,
    UNTIMED,
    EngineServer,
    running,
    write_inputs,
)

pytestmark = OWN_ENGINE_MARKS
ADAPTERS, RANK = {"red": 1, "blue": 2}, 4
OUTPUT_TOKENS = 24


def write_adapter(directory: Path, seed: int) -> Path:
    """A random adapter of the query projections, strong enough to change answers."""
    directory.mkdir()
    rng = np.random.default_rng(seed)
    weights = {}
    for layer in range(LAYERS):
        at = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        for name, shape in (("lora_A", (RANK, HIDDEN)), ("lora_B", (HEADS * HEAD_DIM, RANK))):
            weights[f"{at}.{name}.weight"] = rng.standard_normal(shape, dtype=np.float32)
    save_file(weights, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("adapters")
    _, latency = write_inputs(directory)
    modules = [f"{n}={write_adapter(directory / n, seed)}" for n, seed in ADAPTERS.items()]
    command = [
        *(sys.executable, "-m", "scorpio", "serve", "tiny", "--latency", str(latency)),
        *("--run-dir", str(directory / "run"), "--max-model-len", str(MAX_MODEL_LEN)),
        *("--max-num-seqs", "8", "--max-num-batched-tokens", "64"),  # prompts take several steps
        # It plans every step, however slowly requests come.
        *("--policy", "scorpio", "--policy-option", "light_share=0", *UNTIMED),
        *("--enable-lora", "--max-loras", "1", "--max-lora-rank", "8"),
        *("--distributed-executor-backend", "uni", "--lora-modules", *modules),
    ]
    with running(directory, command) as made:
        yield made


def ask(server: EngineServer, model: str, number: int, tpot_ms: float) -> list[int]:
    """Greedy tokens of one request that may not be refused."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": [32 + (7 * number + i) % 90 for i in range(20 + 31 * number % 200)],
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "vllm_xargs": {"slo_ttft_ms": 500, "slo_tpot_ms": tpot_ms, "slo_on_miss": "wait"},
    }
    code, _, raw = server.call("POST", "/v1/completions", body)
    assert code == 200, raw
    return list(json.loads(raw)["choices"][0]["token_ids"])


def test_the_adapters_differ(server: EngineServer) -> None:
    answers = [ask(server, model, 1, 1000.0) for model in ("tiny", *ADAPTERS)]
    assert len({tuple(answer) for answer in answers}) == 3


@pytest.mark.parametrize("policy", ["scorpio", "scorpio-paper", "qoserve"])
def test_more_adapters_than_places(server: EngineServer, policy: str) -> None:
    server.switch(policy)
    before = server.status()
    load = [
        (("red", "blue", "tiny")[n % 3], n, (30.0, 200.0, 1000.0)[n % 4 % 3]) for n in range(24)
    ]
    with ThreadPoolExecutor(len(load)) as pool:
        answers = list(pool.map(lambda one: ask(server, *one), load))
    assert [len(answer) for answer in answers] == [OUTPUT_TOKENS] * len(load)
    after = server.status()
    assert after["planned_steps"] > before["planned_steps"]
    assert after["fallbacks"] == 0
