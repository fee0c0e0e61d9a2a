"""Speculative decoding on the real engine: the same greedy tokens as stock vLLM with the same
drafts, whichever policy decides; and what is learned of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scorpio.live.control.scrape import scrape
from tests.engine_server import OWN_ENGINE_MARKS, EngineServer, serving

pytestmark = OWN_ENGINE_MARKS
DRAFTS = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2}
ACCEPTED = "vllm:spec_decode_num_accepted_tokens_total"
# The tiny model soon repeats itself, which ngram finds.
PROMPTS = [f"{word} and {word} and again {word}" for word in ("red", "green", "blue", "white")]
TPOT_MS = (60.0, 200.0, 500.0, 60_000.0)  # the test profile says 20 ms a step
OUTPUT_TOKENS = 80


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    directory = tmp_path_factory.mktemp("drafts")
    options = (
        *("--policy", "scorpio", "--policy-option", "light_share=0"),  # it plans every step
        *("--speculative-config", json.dumps(DRAFTS)),
        # Chunks shorter than all prompts together, so that budgets matter.
        *("--max-num-seqs", "8", "--max-num-batched-tokens", "64"),
        *("--distributed-executor-backend", "uni"),
    )
    with serving(directory, *options) as made:
        yield made


def ask(server: EngineServer, row: int) -> list[int]:
    body = {"model": "tiny", "prompt": PROMPTS[row % 4], "max_tokens": OUTPUT_TOKENS}
    body |= {"temperature": 0, "ignore_eos": True, "return_token_ids": True}
    body |= {"vllm_xargs": {"slo_tpot_ms": TPOT_MS[row // 4 % 4], "slo_on_miss": "wait"}}
    code, _, raw = server.call("POST", "/v1/completions", body)
    assert code == 200, raw
    return list(json.loads(raw)["choices"][0]["token_ids"])


@pytest.fixture(scope="module")
def stock(server: EngineServer) -> list[list[int]]:
    """One at a time, stock scheduling, drafts on."""
    server.switch("fcfs")
    answers = [ask(server, row) for row in range(4)]
    assert scrape(server.url)[ACCEPTED] > OUTPUT_TOKENS
    return answers


@pytest.mark.parametrize("policy", ["fcfs", "scorpio", "scorpio-paper", "qoserve"])
def test_same_tokens(server: EngineServer, stock: list[list[int]], policy: str) -> None:
    server.switch(policy)
    accepted, planned = scrape(server.url)[ACCEPTED], server.status()["planned_steps"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda row: ask(server, row), range(16)))
    assert answers == [stock[row % 4] for row in range(16)]
    assert scrape(server.url)[ACCEPTED] > accepted
    status = server.status()
    assert (status["fallbacks"], status["faults"]) == (0, {})
    assert (status["planned_steps"] > planned) is (policy != "fcfs")


def test_what_a_step_yields_is_learned(server: EngineServer, stock: list[list[int]]) -> None:
    found = server.status()["tokens_per_step"]
    assert 1.0 < found <= 1 + DRAFTS["num_speculative_tokens"]  # type: ignore[operator]
