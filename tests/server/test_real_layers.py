"""Real models with windows, with a state beside attention, and without attention: the same greedy
tokens as stock vLLM says, whichever policy decides, and none of them waits for ever."""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engine_server import (
    NO_PREFIX_CACHING,
    OWN_ENGINE_MARKS,
    UNTIMED,
    EngineServer,
    running,
    write_inputs,
)
from tests.tiny_kinds import write_kind

pytestmark = OWN_ENGINE_MARKS
# Of the hybrid one a block has 256 tokens: prompts of several, and chunks of little more than one.
SIZES = (5, 40, 200, 260, 300, 520, 700, 900)
OUTPUT_TOKENS = 12
FLAGS = {
    "windows": ("--dtype", "float32"),
    "hybrid": ("--dtype", "bfloat16", "--enable-prefix-caching"),
    "mamba": ("--dtype", "float32", NO_PREFIX_CACHING),
    "gpt-oss": ("--dtype", "bfloat16"),
    "granite": ("--dtype", "float32", NO_PREFIX_CACHING),
    "falcon": ("--dtype", "float32", NO_PREFIX_CACHING),
}
# By how much the best token must lead where answers are compared: noise between batches is less.
SAFE_LEAD = defaultdict(lambda: 1e-3, {"hybrid": 0.1, "gpt-oss": 0.1})
SLOS: tuple[dict[str, Any], ...] = (
    {"slo_tpot_ms": 60.0},  # the test profile says 20 ms a step
    {"slo_tpot_ms": 200.0},
    {"slo_ttft_ms": 60_000.0},
    {},
)


@pytest.fixture(scope="module", params=FLAGS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, EngineServer]]:
    kind: str = request.param
    directory = tmp_path_factory.mktemp(kind)
    slo, latency = write_inputs(directory)
    command = [
        *(sys.executable, "-m", "scorpio", "serve", str(write_kind(kind, directory / "model"))),
        *("--served-model-name", "tiny", "--slo-config", str(slo), "--latency", str(latency)),
        *("--run-dir", str(directory / "run"), "--max-model-len", "1024", *UNTIMED),
        *("--policy", "scorpio", "--policy-option", "light_share=0"),  # it plans every step
        *("--max-num-seqs", "8", "--max-num-batched-tokens", "320", "--enforce-eager"),
        *("--distributed-executor-backend", "uni", *FLAGS[kind]),
    ]
    with running(directory, command) as server:
        yield kind, server


def ask(server: EngineServer, row: int, salt: str) -> Any:
    random_ = random.Random(row)
    body = {"model": "tiny", "max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True}
    body |= {"prompt": [random_.randrange(1, 94) for _ in range(SIZES[row])]}
    body |= {"logprobs": 2, "return_token_ids": True, "cache_salt": salt}
    body |= {"vllm_xargs": {**SLOS[row % len(SLOS)], "slo_on_miss": "wait"}}
    code, _, raw = server.call("POST", "/v1/completions", body)
    assert code == 200, raw
    return json.loads(raw)["choices"][0]


def sure(choice: Any, safe_lead: float) -> list[int]:
    """Its tokens up to the first one that the second best token comes near."""
    tokens: list[int] = []
    for token, entry in zip(choice["token_ids"], choice["logprobs"]["top_logprobs"], strict=True):
        best, second, *_ = sorted(entry.values(), reverse=True)
        if best - second <= safe_lead:
            break
        tokens.append(token)
    return tokens


def test_the_same_tokens_under_each_policy(served: tuple[str, EngineServer]) -> None:
    kind, server = served
    rows = range(len(SIZES))
    server.switch("fcfs")
    stock = [sure(ask(server, row, "alone"), SAFE_LEAD[kind]) for row in rows]
    assert sum(map(len, stock)) >= len(SIZES) * OUTPUT_TOKENS // 4, stock
    for policy in ("fcfs", "scorpio", "scorpio-paper", "qoserve"):
        server.switch(policy)
        planned = server.status()["planned_steps"]
        with ThreadPoolExecutor(len(SIZES)) as pool:
            answers = list(pool.map(ask, [server] * len(SIZES), rows, [policy] * len(SIZES)))
        said = [answer["token_ids"] for answer in answers]
        assert all(len(tokens) == OUTPUT_TOKENS for tokens in said)
        same = [tokens[: len(wanted)] for tokens, wanted in zip(said, stock, strict=True)]
        assert same == stock, policy
        status = server.status()
        assert (status["fallbacks"], status["faults"]) == (0, {})
        assert status["passthrough"] is False
        assert (status["planned_steps"] > planned) is (policy != "fcfs")


def test_one_that_cannot_be_in_time_is_refused(served: tuple[str, EngineServer]) -> None:
    _, server = served
    server.switch("scorpio")
    body = {"model": "tiny", "prompt": "soon", "max_tokens": 4}
    body |= {"vllm_xargs": {"slo_class": "hopeless"}}
    code, headers, raw = server.call("POST", "/v1/completions", body)
    assert (code, headers["x-scorpio-reject-reason"]) == (429, "ttft_infeasible"), raw
