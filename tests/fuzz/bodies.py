"""What is the i-th hostile request? A function of seed and number, so each can be sent again.

Valid bodies of each route with a few nodes changed, headers among them, then damage to the bytes
now and then. What would only make the engine work long (thousands of tokens or choices) is cut:
whether it stands much work is the soak's question.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from tests.fuzz.mutation import mutated

CANARY = "canary-7d1f"  # in prompts, xargs, keys: may come back to its client and nowhere else
MODEL = "tiny"
MOST_TOKENS, MOST_CHOICES = 6, 3
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_CHAT = [{"role": "user", "content": f"{CANARY} hello"}]
_XARGS = {"slo_ttft_ms": 60000, "slo_on_miss": "wait", "other": f"{CANARY}-xargs"}
ROUTES: dict[str, tuple[dict[str, Any], ...]] = {
    "/v1/completions": (
        {"prompt": f"{CANARY} hello", "max_tokens": 2, "vllm_xargs": _XARGS},
        {"prompt": [72, 73, 74], "max_tokens": 2, "seed": 1, "temperature": 0.7, "top_p": 0.9},
        {"prompt": ["a", "b"], "max_tokens": 1, "n": 2, "logprobs": 1, "stop": ["x"], "echo": True},
        {"prompt": "a", "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}},
        {"prompt": "a", "max_tokens": 3, "structured_outputs": {"regex": "[a-c]{1,4}"}},
    ),
    "/v1/chat/completions": (
        {"messages": _CHAT, "max_tokens": 2, "user": CANARY, "service_tier": "flex"},
        {"messages": _CHAT, "max_completion_tokens": 2, "stream": True, "vllm_xargs": _XARGS},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
         "max_tokens": 2, "response_format": {"type": "json_object"}, "top_k": 3},
        {"messages": _CHAT, "max_tokens": 2, "tools": [_TOOL], "tool_choice": "none"},
    ),
    "/v1/responses": (
        {"input": f"{CANARY} hello", "max_output_tokens": 2, "vllm_xargs": _XARGS},
        {"input": [{"role": "user", "content": "a"}], "max_output_tokens": 2, "stream": True},
    ),
    "/v1/messages": (
        {"messages": _CHAT, "max_tokens": 2, "system": "s", "vllm_xargs": _XARGS},
        {"messages": _CHAT, "max_tokens": 2, "stream": True, "stop_sequences": ["x"]},
    ),
    "/inference/v1/generate": (
        {"token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 2, "extra_args": _XARGS}},
    ),
    "/tokenize": ({"prompt": "a"},),
}  # fmt: skip
_WEIGHTS = (30, 30, 10, 14, 10, 2)
KEYS = (
    *("max_tokens", "min_tokens", "n", "best_of", "seed", "stop", "logprobs", "prompt_logprobs"),
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "repetition_penalty"),
    *("logit_bias", "allowed_token_ids", "bad_words", "stop_token_ids", "ignore_eos", "priority"),
    *("vllm_xargs", "slo_ttft_ms", "slo_tpot_ms", "slo_class", "slo_on_miss", "slo_tenant"),
    *("predicted_output_tokens", "service_tier", "user", "request_id", "cache_salt", "background"),
    *("structured_outputs", "response_format", "json", "regex", "choice", "grammar", "tools"),
    *("truncate_prompt_tokens", "add_special_tokens", "echo", "stream", "stream_options", "suffix"),
    *("chat_template_kwargs", "continue_final_message", "previous_response_id", "reasoning"),
    *("documents", "mm_processor_kwargs", "kv_transfer_params", "return_token_ids", "thinking"),
    *("prompt_embeds", "image_url", "input_audio", "use_beam_search", "length_penalty", "store"),
)
_HEADERS = (
    *("x-slo-ttft-ms", "x-llm-d-slo-ttft-ms", "x-slo-tpot-ms", "x-slo-e2el-ms"),
    *("x-scorpio-on-miss", "x-llm-d-inference-objective", "x-llm-d-inference-fairness-id"),
    *("x-gateway-inference-objective", "x-request-id", "accept", "content-encoding"),
    *("x-data-parallel-rank", "x-session-id", "traceparent", "accept-language", "expect-ct"),
)
_VALUES = ("1", "60000", "0", "-1", "nan", "1e999", "wait", "interactive", "batch", "é", "a" * 900,
           "gzip", ";", "00-0-0-0", "{}", "")  # fmt: skip
_TYPES = ("text/plain", "application/json; charset=utf-16", "multipart/form-data", "", "a/b;c")
_COUNTS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "n", "best_of")


@dataclass(frozen=True, slots=True)
class Shot:
    """One request. cut: the client closes the connection that many bytes before the end."""

    path: str
    headers: dict[str, str]
    body: bytes
    cut: int = 0
    method: str = "POST"


def shot(seed: int, number: int) -> Shot:
    """Request `number` of the campaign with this seed."""
    chance = random.Random(f"{seed}:{number}")
    path = chance.choices(list(ROUTES), _WEIGHTS)[0]
    body = {"model": MODEL, **chance.choice(ROUTES[path])}
    changed = mutated(chance, body, KEYS) if chance.random() < 0.9 else body
    cut_work(changed)
    headers = {"content-type": "application/json", "authorization": f"Bearer {CANARY}-key"}
    if chance.random() < 0.3:
        for _ in range(chance.randint(1, 3)):
            headers[chance.choice(_HEADERS)] = chance.choice(_VALUES)
    if chance.random() < 0.03:
        headers["content-type"] = chance.choice(_TYPES)
    raw = json.dumps(changed, ensure_ascii=chance.random() < 0.7).encode(errors="surrogatepass")
    raw = _damaged(chance, raw) if chance.random() < 0.08 else raw
    cut = chance.randint(1, len(raw)) if raw and chance.random() < 0.01 else 0
    return Shot(path, headers, raw, cut)


def _damaged(chance: random.Random, raw: bytes) -> bytes:
    act, at = chance.random(), chance.randrange(len(raw) + 1)
    if act < 0.3:
        return raw[:at]
    if act < 0.5:
        return raw[:at] + bytes(chance.choices(range(256), k=4)) + raw[at:]
    if act < 0.6:
        return raw[:at] + b"[" * 5000 + raw[at:]
    if act < 0.7:
        return b"[" * 5000 + b"]" * 5000
    if act < 0.8:
        return b'{"a":' * 1500 + b"1" + b"}" * 1500
    return b"" if act < 0.85 else raw.replace(b'"', b"'", chance.randint(1, 4))


def cut_work(value: Any) -> None:
    """Counts that are valid and large become small; all others stay as they are."""
    todo = [value]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            for key in _COUNTS:
                most = MOST_CHOICES if key in ("n", "best_of") else MOST_TOKENS
                count = node.get(key)
                if isinstance(count, str) and count.strip().isdigit():
                    count = int(count[:9])
                if isinstance(count, (int, float)) and most < count < 1e15:
                    node[key] = most
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    if isinstance(value, dict) and not any(value.get(key) is not None for key in _COUNTS[:3]):
        params = value.get("sampling_params")
        holder = params if isinstance(params, dict) else value
        holder.setdefault("max_tokens", MOST_TOKENS)
        if holder["max_tokens"] is None:
            holder["max_tokens"] = MOST_TOKENS
        if "input" in value:
            value["max_output_tokens"] = MOST_TOKENS
