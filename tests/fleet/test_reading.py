"""Is a request read as its sender means it, whatever it holds?"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.routing.load import UNKNOWN_LENGTH, RoutedRequest
from scorpio.fleet.reading import BLOCK_CHARS, MOST_BLOCKS, Reader
from scorpio.server.accounts.terms import make_terms
from scorpio.server.request.endpoints import ENDPOINTS
from scorpio.settings import CONFIG_KEY, load_settings
from scorpio.tenant_settings import key_line

JSON = {"content-type": "application/json"}
KEY = "sk-of-the-tenant-team"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
CLASSES = {
    "classes": {"fast": {"ttft_ms": 500, "tpot_ms": 30}, "slow": {"ttft_ms": 9000}},
    "tenants": {"team": {"keys": [key_line(KEY)], "default_class": "slow"}},
}


def read(
    body: object, path: str = "/v1/completions", default: str | None = None, **headers: str
) -> RoutedRequest:
    trusting = {"trust_fairness_id": True, "default_class": default}
    settings = load_settings({CONFIG_KEY: CLASSES | trusting})
    reader = Reader(make_terms(settings, settings))
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = [(n.encode(), v.encode()) for n, v in (JSON | given).items()]
    scope = {"type": "http", "path": path, "headers": sent}
    return reader.read(raw, scope, ENDPOINTS[path], 5.0)


@pytest.mark.parametrize(
    ("headers", "default", "slo_class", "ttft_s"),
    [
        (WITH_KEY, None, "slow", 9.0),
        (WITH_KEY, "fast", "slow", 9.0),
        ({"x_llm_d_inference_fairness_id": "team"}, None, "slow", 9.0),
        ({"x_llm_d_inference_fairness_id": "none"}, "fast", "fast", 0.5),
        (WITH_KEY | {"x_llm_d_inference_objective": "fast"}, None, "fast", 0.5),
        ({"authorization": "Bearer another"}, "fast", "fast", 0.5),
        ({}, "fast", "fast", 0.5),
        ({}, None, "", math.inf),
    ],
)
def test_what_it_does_not_say_is_its_tenants_class_or_the_servers(
    headers: dict[str, str], default: str | None, slo_class: str, ttft_s: float
) -> None:
    said = read({"prompt": "x"}, default=default, **headers)
    assert (said.slo_class, said.slo.ttft_s) == (slo_class, ttft_s)


def test_its_slo_is_what_a_server_would_read() -> None:
    said = read({"prompt": "x"}, x_slo_ttft_ms="700", x_slo_tpot_ms="50")
    assert (said.slo.ttft_s, said.slo.tpot_s) == (0.7, 0.05)
    assert said.deadline_s == pytest.approx(5.7)
    for named in (
        read({"prompt": "x", "vllm_xargs": {"slo_class": "fast"}}),
        read({"prompt": "x"}, x_llm_d_inference_objective="fast"),
    ):
        assert (named.slo.ttft_s, named.slo.tpot_s) == (0.5, 0.03)
    nested = {"sampling_params": {"extra_args": {"slo_tpot_ms": 40}}, "token_ids": [1]}
    assert read(nested, "/inference/v1/generate").slo.tpot_s == 0.04


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 5000, {"prompt": {}}, {"messages": 3},
     {"prompt": "x", "vllm_xargs": 3}, {"prompt": "x", "vllm_xargs": {"slo_ttft_ms": "soon"}},
     {"prompt": "x", "max_tokens": -4}, {"prompt": "x", "max_tokens": "9"}, {"input": [[[]]]}],
)  # fmt: skip
def test_what_is_malformed_has_no_slo_and_a_size(body: object) -> None:
    said = read(body)
    assert math.isinf(said.slo.ttft_s)
    assert said.prompt_tokens >= 0
    assert said.expected_output_tokens >= 1.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["messages", "prompt", "input", "content", "text",
                                           "max_tokens", "vllm_xargs", "tools"]), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_nothing_a_body_holds_is_an_error(body: object) -> None:
    said = read(body)
    assert said.prompt_tokens >= 0
    assert 1.0 <= said.expected_output_tokens <= UNKNOWN_LENGTH


def test_a_deeply_nested_body_is_read() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"content": [deep]}
    assert read({"messages": [deep]}).prompt_tokens >= 1


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x" * 400}, 100),
        ({"prompt": list(range(1000))}, 1000),
        ({"prompt": ["x" * 40, "y" * 40]}, 20),
        ({"messages": [{"role": "user", "content": "x" * 396}]}, 100),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 396}]}]}, 100),
        ({"input": "x" * 80, "instructions": "y" * 80}, 40),
        ({"prompt": "x"}, 1),
    ],
)
def test_its_size_is_its_text_or_its_token_ids(body: object, tokens: int) -> None:
    assert read(body).prompt_tokens == tokens


@pytest.mark.parametrize(
    ("body", "length"),
    [({}, 256.0), ({"max_tokens": 40}, 40.0), ({"max_completion_tokens": 7}, 7.0),
     ({"max_tokens": 10_000}, 256.0), ({"max_output_tokens": 0}, 1.0)],
)  # fmt: skip
def test_its_length_is_at_most_what_it_says(body: dict[str, int], length: float) -> None:
    assert read({"prompt": "x"} | body).expected_output_tokens == length


def turns(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_equal_beginnings_have_equal_ids_and_no_others() -> None:
    first = "a" * (3 * BLOCK_CHARS)
    one = read(turns(first)).prefix_ids
    longer = read(turns(first, "b" * BLOCK_CHARS)).prefix_ids
    other = read(turns("c" + first)).prefix_ids
    assert len(one) == 3
    assert longer[:3] == one
    assert len(longer) == 4
    assert not set(other) & set(one)
    # a block stands for all up to there, not for its own text
    assert len(set(read({"prompt": "a" * (4 * BLOCK_CHARS)}).prefix_ids)) == 4


def test_of_a_very_long_prompt_only_the_beginning_is_told_apart() -> None:
    said = read({"prompt": "a" * (BLOCK_CHARS * (MOST_BLOCKS + 50))})
    assert len(said.prefix_ids) == MOST_BLOCKS
    assert said.prompt_tokens == 512 * (MOST_BLOCKS + 50)
