"""What is the i-th request of a soak? A function of seed and number, so a run can be repeated.

A tenth is aborted, a twentieth has a grammar, a tenth states an SLO that no engine can meet.
Prompts differ in length and share a beginning now and then; grammars come from a fixed set of
shapes, as an application's do (a new one each time would measure vLLM's cache of compiled ones).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABORTED_EVERY, GRAMMAR_EVERY, REFUSED_EVERY = 10, 20, 10
ROUTES = {"/v1/completions": 14, "/v1/chat/completions": 4, "/v1/responses": 1, "/v1/messages": 1}
SLOS: tuple[Mapping[str, str], ...] = (
    {},
    {},
    {"x-llm-d-inference-objective": "interactive"},
    {"x-slo-ttft-ms": "2000", "x-slo-tpot-ms": "200"},
    {"x-slo-e2el-ms": "30000"},
    {"x-slo-ttft-ms": "400", "x-scorpio-on-miss": "degrade"},
    {"x-llm-d-inference-objective": "batch", "x-llm-d-inference-fairness-id": "night"},
)
HOPELESS: Mapping[str, str] = {"x-llm-d-inference-objective": "hopeless"}
GRAMMARS: tuple[Mapping[str, Any], ...] = (
    {"regex": r"(yes|no), [a-z]{3,12}\."},
    {"regex": r"\d{4}-\d\d-\d\d"},
    {"choice": ["low", "medium", "high"]},
    {"json": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    {"json": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 5}},
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz    "
_SYSTEM = "You answer in one sentence, plainly, and never ask back. " * 2
_LONGEST_PROMPT, _LONGEST_ANSWER, _ABORTED_ANSWER = 300, 40, 150
_ABORT_WITHIN_S = 0.6


@dataclass(frozen=True, slots=True)
class SoakRequest:
    """What to send. abort_after_s: the client leaves then, whatever has come."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    stream: bool
    abort_after_s: float | None


def soak_request(seed: int, number: int, model: str) -> SoakRequest:
    """Request `number` of the run with this seed."""
    chance = random.Random(f"{seed}:{number}")
    path = chance.choices(list(ROUTES), list(ROUTES.values()))[0]
    stream = chance.random() < 0.6
    aborted = number % ABORTED_EVERY == 3
    answer_tokens = min(_LONGEST_ANSWER, 1 + int(chance.expovariate(1 / 12)))
    if aborted:  # long enough that the client is gone before the end
        answer_tokens = _ABORTED_ANSWER
    body = {"model": model, "stream": stream, **_content(path, _prompt(chance), answer_tokens)}
    if number % GRAMMAR_EVERY == 7:
        path = "/v1/completions"
        body = {"model": model, "stream": stream, **_content(path, _prompt(chance), answer_tokens)}
        body["structured_outputs"] = dict(chance.choice(GRAMMARS))
    elif path.endswith("completions") and chance.random() < 0.05:
        body["n"] = 2
    slo = HOPELESS if number % REFUSED_EVERY == 6 else chance.choice(SLOS)
    return SoakRequest(
        path, body, dict(slo), stream, chance.uniform(0.0, _ABORT_WITHIN_S) if aborted else None
    )


def _prompt(chance: random.Random) -> str:
    length = min(_LONGEST_PROMPT, 8 + int(chance.expovariate(1 / 60)))
    start = _SYSTEM if chance.random() < 0.3 else ""
    return (start + "".join(chance.choices(_LETTERS, k=length)))[:_LONGEST_PROMPT]


def _content(path: str, prompt: str, answer_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    if path == "/v1/completions":
        return {"prompt": prompt, "max_tokens": answer_tokens}
    if path == "/v1/responses":
        return {"input": prompt, "max_output_tokens": answer_tokens}
    return {"messages": messages, "max_tokens": answer_tokens}
