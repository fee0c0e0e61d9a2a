"""Which requests are never refused, and who do they belong to?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.posting import CHAT, CONFIG, WITH_DEFAULT, post, xargs

SEVERAL = [
    ({"prompt": "a", "n": 2}, True),
    ({"prompt": "a", "n": "2"}, True),
    ({"prompt": "a", "n": 1}, False),
    ({"prompt": "a", "n": None}, False),
    ({"prompt": "a", "n": float("nan")}, False),
    ({"prompt": "a", "n": {}}, False),
    ({"prompt": "a", "best_of": 3}, True),
    ({"prompt": "a", "use_beam_search": True}, True),
    ({"prompt": ["a", "b"]}, True),
    ({"prompt": ["a"]}, False),
    ({"prompt": [1, 2, 3]}, False),
    ({"prompt": [[1, 2], [3]]}, True),
    ({"prompt_embeds": ["x", "y"]}, True),
    ({"messages": [[{"role": "user"}], [{"role": "user"}]]}, True),
    ({"messages": [{"role": "user"}, {"role": "user"}]}, False),
    ({"input": "a", "background": True}, True),
]


@pytest.mark.parametrize(("body", "several"), SEVERAL)
async def test_several_engine_requests_are_never_refused_in_part(
    body: dict[str, Any], several: bool
) -> None:
    wanted = {"slo_ttft_ms": 5.0} | ({"slo_on_miss": "wait"} if several else {})
    assert await xargs(body, {"x-slo-ttft-ms": "5"}) == wanted
    # a default class is an SLO too; none at all is not
    got = await xargs(body, config=WITH_DEFAULT)
    assert got == ({"slo_on_miss": "wait"} if several else {})
    assert await xargs(body) == {}


async def test_several_keeps_degrade_and_overrides_reject() -> None:
    body = {"prompt": ["a", "b"], "vllm_xargs": {"slo_ttft_ms": 5}}
    assert (await xargs(body, {"x-scorpio-on-miss": "degrade"}))["slo_on_miss"] == "degrade"
    assert (await xargs(body, {"x-scorpio-on-miss": "reject"}))["slo_on_miss"] == "wait"
    assert (await xargs(body | {"vllm_xargs": {"slo_class": "batch"}})) == {"slo_class": "batch"}


async def test_tokens_in_tokens_out_route_has_its_own_place() -> None:
    body = {"token_ids": [1], "sampling_params": {"max_tokens": 2, "n": 2}}
    _, server = await post(body, {"x-slo-ttft-ms": "5"}, path="/inference/v1/generate")
    extra = {"slo_ttft_ms": 5.0, "slo_on_miss": "wait"}
    assert server.body["sampling_params"] == {"max_tokens": 2, "n": 2, "extra_args": extra}
    assert "vllm_xargs" not in server.body


@pytest.mark.parametrize(
    ("body", "headers", "wanted"),
    [
        ({"user": "u1"}, {}, {"slo_tenant": "u1"}),
        ({"user": "u1"}, {"x-llm-d-inference-fairness-id": "t"}, {"slo_tenant": "t"}),
        ({"user": "u1", "vllm_xargs": {"slo_tenant": "x"}}, {}, {"slo_tenant": "x"}),
        ({"user": ""}, {}, {}),
        ({"user": 7}, {}, {}),
        ({}, {}, {}),
    ],
)
async def test_tenant(
    body: dict[str, Any], headers: dict[str, str], wanted: dict[str, Any]
) -> None:
    assert await xargs(CHAT | body, headers, WITH_DEFAULT) == wanted


async def test_api_key_names_the_tenant_only_when_it_is_checked() -> None:
    secret = {"authorization": "Bearer sesame"}
    with_keys = await xargs(CHAT, secret, WITH_DEFAULT, api_keys=["sesame", "other"])
    assert with_keys["slo_tenant"].startswith("key-")
    assert "sesame" not in with_keys["slo_tenant"]
    assert await xargs(CHAT, secret, WITH_DEFAULT) == {}
    assert await xargs(CHAT, secret, CONFIG, api_keys=["sesame"]) == {}


async def test_without_the_key_nothing_is_said_about_slos() -> None:
    """vLLM answers 401 behind us; the body is not even read."""
    reply, server = await post(
        CHAT, {"x-slo-ttft-ms": "nonsense", "authorization": "Bearer no"}, api_keys=["sesame"]
    )
    assert reply.status == 200  # of the fake, which checks no key
    assert server.bodies == [json.dumps(CHAT).encode()]
