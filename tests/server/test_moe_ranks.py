"""Two ranks of a mixture-of-experts model behind one real server: they step together, each plans for
itself, and a refusal leaves none of them waiting."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import vllm
from prometheus_client.parser import text_string_to_metric_families

from scorpio.models import resolve_model
from tests.engine_server import UNTIMED, EngineServer, running, write_inputs

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        vllm.__version__.startswith("0.33"),
        reason="0.33's CPU worker finds no core of its own for the second rank here",
    ),
]
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 261,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 2048,
    "sliding_window": None,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "dtype": "float32",
}
REQUESTS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("moe")
    model, tiny = directory / "moe", Path(resolve_model("tiny"))
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MIXTRAL))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(tiny / name, model / name)
    slo, latency = write_inputs(directory)
    command = [
        *(sys.executable, "-m", "scorpio", "serve", str(model), "--load-format", "dummy"),
        *("--slo-config", str(slo), "--latency", str(latency), "--max-model-len", "512"),
        *("--run-dir", str(directory / "run"), "--served-model-name", "moe", *UNTIMED),
        *("--data-parallel-size", "2", "--enable-expert-parallel"),
    ]
    env = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with running(directory, command, env) as made:
        yield made


def ask(server: EngineServer, slo_class: str = "interactive") -> int:
    body = {"model": "moe", "prompt": "one and the same", "max_tokens": 24, "ignore_eos": True}
    body |= {"vllm_xargs": {"slo_class": slo_class}}
    return server.call("POST", "/v1/completions", body)[0]


def test_a_refusal_at_resting_ranks_leaves_none_waiting(server: EngineServer) -> None:
    """Each of these starts a wave, or would."""
    for _ in range(4):
        assert ask(server, "hopeless") == 429
        assert ask(server) == 200


def test_both_serve_and_refuse_and_are_told_apart(server: EngineServer) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        kept = list(pool.map(lambda _: ask(server), range(REQUESTS)))
        refused = list(pool.map(lambda _: ask(server, "hopeless"), range(REQUESTS)))
        both = list(pool.map(lambda n: ask(server, ("hopeless", "interactive")[n % 2]), range(8)))
    assert kept == [200] * REQUESTS
    assert refused == [429] * REQUESTS
    assert both == [429, 200] * 4

    def counted() -> bool:
        found = server.status().get("finished_by_state", {})
        return bool(found == {"finished": REQUESTS + 8, "rejected": REQUESTS + 8})

    server.wait_for(counted, "every request in the status of both")
    engines = server.status()["engines"]
    assert sorted(engines) == ["0", "1"]
    assert all(engine["steps"] > 0 and engine["fallbacks"] == 0 for engine in engines.values())
    assert not any(engine["passthrough"] for engine in engines.values())
    by_engine: dict[str, float] = {}
    for family in text_string_to_metric_families(server.call("GET", "/metrics")[2].decode()):
        for sample in family.samples:
            if sample.name == "scorpio_requests_total":
                engine = sample.labels["engine"]
                by_engine[engine] = by_engine.get(engine, 0.0) + sample.value
    assert sum(by_engine.values()) == 2 * REQUESTS + 16
    assert all(by_engine[engine] > 0 for engine in ("0", "1"))
