"""Which requests are never refused, and who do they belong to?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from scorpio.core.tenants import tenant_key
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens
from tests.server.posting import CHAT, CONFIG, WITH_DEFAULT, post, xargs

SEVERAL = [
    ({"prompt": "a", "n": 2}, False),
    ({"prompt": "a", "n": "2"}, False),
    ({"prompt": "a", "n": 1}, False),
    ({"prompt": "a", "n": None}, False),
    ({"prompt": "a", "n": float("nan")}, False),
    ({"prompt": "a", "n": float("-inf")}, False),
    ({"prompt": "a", "n": {}}, False),
    ({"prompt": "a", "best_of": 3}, False),
    ({"prompt": ["a", "b"], "n": 2}, True),
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
async def test_what_cannot_be_refused_as_one_is_served_late(
    body: dict[str, Any], several: bool
) -> None:
    wanted = {"slo_ttft_ms": 5.0} | ({"slo_on_miss": "degrade"} if several else {})
    assert await xargs(body, {"x-slo-ttft-ms": "5"}) == wanted
    # a default class is an SLO too; none at all is not
    got = await xargs(body, config=WITH_DEFAULT)
    assert got == ({"slo_on_miss": "degrade"} if several else {})
    assert await xargs(body) == {}


async def test_several_keeps_what_it_says_but_reject() -> None:
    body = {"prompt": ["a", "b"], "vllm_xargs": {"slo_ttft_ms": 5}}
    assert (await xargs(body, {"x-scorpio-on-miss": "degrade"}))["slo_on_miss"] == "degrade"
    assert (await xargs(body, {"x-scorpio-on-miss": "wait"}))["slo_on_miss"] == "wait"
    assert (await xargs(body, {"x-scorpio-on-miss": "reject"}))["slo_on_miss"] == "degrade"
    # two prompts are no way to wait where the operator keeps that to others
    strict = CONFIG | {"client_on_miss": ["reject"]}
    assert (await xargs(body, config=strict))["slo_on_miss"] == "degrade"
    assert (await xargs(body | {"vllm_xargs": {"slo_class": "batch"}})) == {"slo_class": "batch"}


async def test_tokens_in_tokens_out_route_has_its_own_place() -> None:
    body = {"token_ids": [1], "prompt": ["a", "b"], "sampling_params": {"max_tokens": 2, "n": 2}}
    _, server = await post(body, {"x-slo-ttft-ms": "5"}, path="/inference/v1/generate")
    extra = {"slo_ttft_ms": 5.0, "slo_on_miss": "degrade"}
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


SECRET = {"authorization": "Bearer other"}
KEYS = ["sesame", "other"]


async def test_api_key_names_the_tenant_only_when_it_is_checked() -> None:
    assert await xargs(CHAT, SECRET, WITH_DEFAULT, api_keys=KEYS) == {"slo_tenant": "key-1/"}
    assert await xargs(CHAT, SECRET, WITH_DEFAULT) == {}
    assert await xargs(CHAT, SECRET, CONFIG, api_keys=KEYS) == {}


@pytest.mark.parametrize(
    ("body", "headers", "name"),
    [
        ({"user": "u"}, {}, "u"),
        ({"user": "key-0/u"}, {}, "key-0/u"),
        ({}, {"x-llm-d-inference-fairness-id": "key-0/"}, "key-0/"),
        ({}, {"x-gateway-inference-fairness-id": "t"}, "t"),
        ({"vllm_xargs": {"slo_tenant": "key-0/"}}, {}, "key-0/"),
        ({"vllm_xargs": {"slo_tenant": ""}}, {}, ""),
    ],
)
async def test_no_name_of_a_request_leaves_its_key(
    body: dict[str, Any], headers: dict[str, str], name: str
) -> None:
    made, server = await post(CHAT | body, headers | SECRET, WITH_DEFAULT, api_keys=KEYS)
    assert made.status == 200
    assert server.body["vllm_xargs"]["slo_tenant"] == f"key-1/{name}"
    # and without a key no name is an account
    made, server = await post(CHAT | body, headers, WITH_DEFAULT)
    told = (server.body.get("vllm_xargs") or {}).get("slo_tenant", "")
    assert told == (f"/{name}" if "/" in name else name)
    assert tenant_key(told) >> 21 == tenant_key("") >> 21


async def test_a_trusted_gateway_names_accounts() -> None:
    trusting = WITH_DEFAULT | {"trust_fairness_id": True}
    header = {"x-llm-d-inference-fairness-id": "team/a"}
    body = CHAT | {"user": "u"}
    assert (await xargs(body, header, trusting))["slo_tenant"] == "team%2Fa/u"
    with_key = await xargs(body, header | SECRET, trusting, api_keys=KEYS)
    assert with_key["slo_tenant"] == "key-1+team%2Fa/u"
    assert (await xargs(body, {}, trusting))["slo_tenant"] == "u"


@pytest.mark.parametrize(
    ("path", "raw", "json_type"),
    [
        ("/v1/chat/completions", b'{"messages": []}', True),  # no SLO: not a byte changes
        ("/v1/audio/transcriptions", b"--form", False),
        ("/v1/chat/completions", b"not json", True),
    ],
)
async def test_the_engine_hears_the_account_on_every_route(
    path: str, raw: bytes, json_type: bool
) -> None:
    async def forging(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        params = fake.SamplingParams({"slo_tenant": "key-0/", "mine": 1})
        async for _ in server.handler.engine_client.generate("p", params, "id"):
            pass
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    for keys, wanted in ((KEYS, "key-1/"), (None, None)):
        engine = FakeEngine([tokens(1)])
        server = FakeServer(engine, CONFIG, api_keys=keys, behave=forging)
        await client(server).request("POST", path, raw, SECRET, json_type=json_type)
        assert server.bodies == [raw]
        assert (engine.params[0].extra_args or {}).get("slo_tenant") == wanted
        assert (engine.params[0].extra_args or {})["mine"] == 1


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        ({"user": "x" * 257}, {}, "user"),
        ({"vllm_xargs": {"slo_tenant": "x" * 257}}, {}, "slo_tenant"),
        ({}, {"x-llm-d-inference-fairness-id": "x" * 257}, "x-llm-d-inference-fairness-id"),
    ],
)
async def test_a_name_has_a_bounded_length(
    body: dict[str, Any], headers: dict[str, str], field: str
) -> None:
    reply, server = await post(CHAT | body, headers, WITH_DEFAULT)
    assert (reply.status, reply.json()["error"]["param"]) == (400, field)
    assert server.bodies == []


async def test_without_the_key_nothing_is_said_about_slos() -> None:
    """vLLM answers 401 behind us; the body is not even read."""
    reply, server = await post(
        CHAT, {"x-slo-ttft-ms": "nonsense", "authorization": "Bearer no"}, api_keys=["sesame"]
    )
    assert reply.status == 200  # of the fake, which checks no key
    assert server.bodies == [json.dumps(CHAT).encode()]


@pytest.mark.parametrize(
    ("body", "several"),
    [({"prompt": ["a", "b"]}, True), ({"prompt": "a", "n": 2}, True), ({"prompt": "a"}, False)],
)
async def test_the_engine_is_told_which_requests_are_of_one_body(
    body: dict[str, Any], several: bool
) -> None:
    async def behave(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        given = json.loads(raw)["vllm_xargs"]
        for name in ("id-0", "id-1"):
            stream = server.handler.engine_client.generate("p", fake.SamplingParams(given), name)
            assert [item async for item in stream]
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    server = FakeServer(FakeEngine([tokens(1) for _ in range(4)]), CONFIG, behave=behave)
    raw = json.dumps(body | {"vllm_xargs": {"scorpio_body": "forged", "other": 1}}).encode()
    for _ in range(2):
        reply = await client(server).request("POST", "/v1/completions", raw)
        assert reply.status == 200
    extras = [params.extra_args or {} for params in server.engine.params]
    assert all(extra["other"] == 1 for extra in extras)
    names = [extra.get("scorpio_body") for extra in extras]
    if several:
        assert names[0] == names[1] != names[2] == names[3]
        assert "forged" not in names
    else:
        assert names == [None] * 4
