"""Does each way of stating an SLO arrive in the body, in the documented order?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from scorpio.server.state.metrics import FOREIGN
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens
from tests.server.posting import CHAT, CONFIG, PATH, WITH_DEFAULT, post, xargs


@pytest.mark.parametrize(
    ("headers", "given", "wanted"),
    [
        ({"x-llm-d-slo-ttft-ms": "500"}, {}, {"slo_ttft_ms": 500.0}),
        ({"x-slo-ttft-ms": "500.5"}, {}, {"slo_ttft_ms": 500.5}),
        ({"X-SLO-TPOT-MS": " 40 "}, {}, {"slo_tpot_ms": 40.0}),
        ({"x-llm-d-slo-tpot-ms": "1e2"}, {}, {"slo_tpot_ms": 100.0}),
        ({"x-slo-e2el-ms": "9"}, {}, {"slo_e2el_ms": 9.0}),
        ({"x-llm-d-slo-ttft-ms": "1", "x-slo-ttft-ms": "2"}, {}, {"slo_ttft_ms": 1.0}),
        ({"x-slo-ttft-ms": "2"}, {"slo_ttft_ms": 3}, {"slo_ttft_ms": 2.0}),
        (
            {"x-slo-ttft-ms": "2"},
            {"slo_tpot_ms": 3, "mine": "x"},
            {"slo_ttft_ms": 2.0, "slo_tpot_ms": 3, "mine": "x"},
        ),
        ({}, {"slo_ttft_ms": "7"}, {"slo_ttft_ms": "7"}),
        ({"x-scorpio-on-miss": "degrade"}, {}, {"slo_on_miss": "degrade"}),
        (
            {"x-scorpio-on-miss": "wait"},
            {"slo_on_miss": "reject"},
            {"slo_on_miss": "wait"},
        ),
        ({"x-llm-d-inference-objective": "batch"}, {}, {"slo_class": "batch"}),
        (
            {"x-llm-d-inference-objective": "batch"},
            {"slo_class": "standard"},
            {"slo_class": "batch"},
        ),
        ({"x-gateway-inference-objective": "batch"}, {}, {"slo_class": "batch"}),
        (
            {"x-llm-d-inference-objective": "gold", "x-gateway-inference-objective": "batch"},
            {},
            {"slo_class": "batch"},
        ),
        ({"x-llm-d-inference-fairness-id": "team-a"}, {}, {"slo_tenant": "team-a"}),
        ({"x-gateway-inference-fairness-id": "team-a"}, {}, {"slo_tenant": "team-a"}),
        ({"x-slo-ttft-ms": "500, 700"}, {}, {"slo_ttft_ms": 500.0}),
        ({}, {"predicted_output_tokens": 12}, {"predicted_output_tokens": 12}),
        ({}, {"kv_transfer_params": {"a": 1}}, {"kv_transfer_params": {"a": 1}}),
        ({}, {"kv_transfer_params": None}, {"kv_transfer_params": None}),
    ],
)
async def test_precedence(
    headers: dict[str, str], given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert await xargs(CHAT | {"vllm_xargs": given}, headers) == wanted


@pytest.mark.parametrize("header", ["x-llm-d-inference-objective", "x-gateway-inference-objective"])
@pytest.mark.parametrize("name", ["high-priority", ""])
@pytest.mark.parametrize("config", [CONFIG, WITH_DEFAULT, {}])
async def test_an_objective_that_is_not_ours_is_no_class(
    header: str, name: str, config: dict[str, Any]
) -> None:
    """It belongs to the router in front; behind llm-d each request carries one."""
    counted = FOREIGN.labels("tiny")._value
    before = counted.get()
    assert await xargs(CHAT, {header: name}, config) == {}
    assert counted.get() == before + bool(name)
    stated = {header: name, "x-llm-d-slo-ttft-ms": "500"}
    assert await xargs(CHAT, stated, config) == {"slo_ttft_ms": 500.0}
    if config:
        body = CHAT | {"vllm_xargs": {"slo_class": "batch"}}
        assert await xargs(body, {header: name}, config) == {"slo_class": "batch"}


async def test_names_in_headers_are_utf_8() -> None:
    pairs = [(b"x-llm-d-inference-fairness-id", "Jürgen".encode())]
    assert await xargs(CHAT, pairs) == {"slo_tenant": "Jürgen"}
    pairs = [(b"x-llm-d-inference-fairness-id", "Jürgen".encode("latin-1"))]
    assert await xargs(CHAT, pairs) == {"slo_tenant": "Jürgen"}


async def test_of_a_repeated_header_the_first_counts() -> None:
    pairs = [(b"x-slo-ttft-ms", b"1"), (b"x-slo-ttft-ms", b"2")]
    assert await xargs(CHAT, pairs) == {"slo_ttft_ms": 1.0}


@pytest.mark.parametrize(
    ("tier", "wanted"),
    [
        ("priority", {"slo_class": "interactive"}),
        ("default", {"slo_class": "standard"}),
        ("auto", {"slo_class": "standard"}),
        ("flex", {"slo_class": "batch"}),
        ("scale", {}),
        (5, {}),
        (None, {}),
    ],
)
async def test_service_tier(tier: object, wanted: dict[str, Any]) -> None:
    assert await xargs(CHAT | {"service_tier": tier}) == wanted


async def test_service_tier_comes_last_and_may_be_mapped_elsewhere() -> None:
    body = CHAT | {"service_tier": "priority", "vllm_xargs": {"slo_class": "batch"}}
    assert await xargs(body) == {"slo_class": "batch"}
    mapped = CONFIG | {"service_tiers": {"priority": "batch"}}
    assert await xargs(CHAT | {"service_tier": "priority"}, config=mapped) == {"slo_class": "batch"}
    # a tier whose class is not configured is OpenAI's business, not ours
    assert await xargs(CHAT | {"service_tier": "priority"}, config={}) == {}


@pytest.mark.parametrize(
    ("headers", "given", "field"),
    [
        ({"x-slo-ttft-ms": "fast"}, {}, "x-slo-ttft-ms"),
        ({"x-slo-ttft-ms": ""}, {}, "x-slo-ttft-ms"),
        ({"x-slo-ttft-ms": "1_000"}, {}, "x-slo-ttft-ms"),
        ({"x-slo-ttft-ms": "500ms"}, {}, "x-slo-ttft-ms"),
        ({}, {"slo_ttft_ms": "\u0663"}, "slo_ttft_ms"),
        ({"x-llm-d-slo-tpot-ms": "nan"}, {}, "x-llm-d-slo-tpot-ms"),
        ({"x-slo-e2el-ms": "-1"}, {}, "x-slo-e2el-ms"),
        ({"x-slo-e2el-ms": "1e999"}, {}, "x-slo-e2el-ms"),
        ({"x-slo-ttft-ms": "0"}, {"slo_ttft_ms": 5}, "x-slo-ttft-ms"),
        ({"x-scorpio-on-miss": "panic"}, {}, "x-scorpio-on-miss"),
        ({}, {"slo_ttft_ms": True}, "slo_ttft_ms"),
        ({}, {"slo_ttft_ms": None}, "slo_ttft_ms"),
        ({}, {"slo_ttft_ms": [1]}, "slo_ttft_ms"),
        ({}, {"slo_tpot_ms": float("nan")}, "slo_tpot_ms"),
        ({}, {"slo_class": "gold"}, "slo_class"),
        ({}, {"slo_class": 1}, "slo_class"),
        ({}, {"slo_on_miss": "panic"}, "slo_on_miss"),
        ({}, {"predicted_output_tokens": "many"}, "predicted_output_tokens"),
        ({}, {"slo_tenant": 5}, "slo_tenant"),
        ({}, {"slo_ttft": 500}, "slo_ttft"),  # no such name: its promise would be lost in silence
        ({}, {"kv_transfer_params": ["a"]}, "kv_transfer_params"),
        ({}, {"ec_transfer_params": 0.5}, "ec_transfer_params"),
    ],
)
async def test_malformed_is_400_naming_the_field(
    headers: dict[str, str], given: dict[str, Any], field: str
) -> None:
    reply, server = await post(CHAT | {"vllm_xargs": given}, headers)
    assert reply.status == 400
    error = reply.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (field, 400, "BadRequestError")
    assert error["message"].startswith(f"{field}: ")
    assert server.bodies == []  # vLLM never saw it


@pytest.mark.parametrize(
    ("headers", "given", "field"),
    [
        ({"x-slo-tpot-ms": "29"}, {}, "x-slo-tpot-ms"),
        ({"x-llm-d-slo-tpot-ms": "0.001"}, {"slo_tpot_ms": 50}, "x-llm-d-slo-tpot-ms"),
        ({}, {"slo_tpot_ms": 29.9}, "slo_tpot_ms"),
    ],
)
async def test_a_target_faster_than_offered_is_400(
    headers: dict[str, str], given: dict[str, Any], field: str
) -> None:
    floor = {"least_tpot_ms": 30}
    reply, server = await post(CHAT | {"vllm_xargs": given}, headers, config=floor)
    assert (reply.status, reply.json()["error"]["param"]) == (400, field)
    assert "30 ms at best" in reply.json()["error"]["message"]
    assert server.bodies == []
    offered = CHAT | {"vllm_xargs": {"slo_tpot_ms": 30}}
    assert (await post(offered, config=floor))[0].status == 200


@pytest.mark.parametrize(
    ("headers", "given", "field"),
    [
        ({"x-slo-ttft-ms": "99"}, {}, "x-slo-ttft-ms"),
        ({"x-slo-e2el-ms": "99"}, {}, "x-slo-e2el-ms"),
        ({}, {"slo_ttft_ms": "99.9"}, "slo_ttft_ms"),
        ({}, {"slo_e2el_ms": 1}, "slo_e2el_ms"),
        ({"x-scorpio-on-miss": "wait"}, {}, "x-scorpio-on-miss"),
        ({"x-scorpio-on-miss": "wait", "x-slo-ttft-ms": "500"}, {}, "x-scorpio-on-miss"),
        ({}, {"slo_on_miss": "wait"}, "slo_on_miss"),
        ({}, {"n": 5}, "n"),
        ({}, {"n": "5.0"}, "n"),
        ({}, {"n": 1e300}, "n"),
        ({}, {"best_of": 5}, "best_of"),
        ({}, {"sampling_params": {"n": 5}}, "n"),
    ],
)
async def test_what_the_operator_does_not_offer_is_400(
    headers: dict[str, str], given: dict[str, Any], field: str
) -> None:
    operator = CONFIG | {
        "least_ttft_ms": 100,
        "client_on_miss": ["reject", "degrade"],
        "most_choices": 4,
    }
    own = {key: given[key] for key in given if not key.startswith("slo_")}
    stated = {key: given[key] for key in given if key.startswith("slo_")}
    body = CHAT | own | {"vllm_xargs": stated}
    reply, server = await post(body, headers, config=operator)
    assert (reply.status, reply.json()["error"]["param"]) == (400, field)
    assert server.bodies == []
    without = CONFIG | {"most_choices": 10**310, "most_in_flight": 10**310}
    assert (await post(body, headers, config=without))[0].status == 200


async def test_a_class_may_wait_where_clients_may_not_choose_to() -> None:
    config = {"classes": {"patient": {"on_miss": "wait"}}, "client_on_miss": ["reject"]}
    body = CHAT | {"vllm_xargs": {"slo_class": "patient"}}
    assert await xargs(body, config=config) == {"slo_class": "patient"}
    offered = CHAT | {"n": 128, "vllm_xargs": {"slo_ttft_ms": 100, "slo_e2el_ms": 100}}
    assert (await post(offered, config={"least_ttft_ms": 100}))[0].status == 200
    assert (await post(offered | {"n": 129}))[0].status == 400


async def test_messages_errors_have_the_anthropic_envelope() -> None:
    reply, _ = await post(CHAT, {"x-slo-ttft-ms": "x"}, path="/v1/messages")
    assert reply.status == 400
    assert reply.json()["type"] == "error"
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.json()["error"]["param"] == "x-slo-ttft-ms"


@pytest.mark.parametrize(
    "raw",
    [
        b'{ "model":"tiny" ,"n":3, "user":"me" }\n',
        b'{"model":"tiny","vllm_xargs":null}',
        b'{"model":"tiny","vllm_xargs":{"other":[1,2]}}',
    ],
)
async def test_without_an_slo_not_a_byte_changes(raw: bytes) -> None:
    _, server = await post(raw)
    assert server.bodies == [raw]
    assert (b"content-length", str(len(raw)).encode()) in server.scopes[0]["headers"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"vllm_xargs":[1]}',
        b'{"vllm_xargs":"x"}',
    ],
)
async def test_what_is_not_ours_to_judge_is_passed_on(raw: bytes) -> None:
    reply, server = await post(raw, {"x-slo-ttft-ms": "5"})
    assert server.bodies == [raw]
    assert reply.status == 200


async def test_other_content_types_are_passed_on() -> None:
    server = FakeServer(FakeEngine([tokens(1)]), CONFIG)
    raw = json.dumps(CHAT).encode()
    await client(server).request(
        "POST", PATH, raw, {"content-type": "text/plain", "x-slo-ttft-ms": "5"}, json_type=False
    )
    assert server.bodies == [raw]


async def test_body_in_parts_and_its_length() -> None:
    server = FakeServer(FakeEngine([tokens(1)]), CONFIG)
    raw = json.dumps(CHAT).encode()
    headers = [(b"x-slo-ttft-ms", b"5"), (b"transfer-encoding", b"chunked")]
    await client(server).request("POST", PATH, [raw[:10], b"", raw[10:]], headers)
    assert server.body == CHAT | {"vllm_xargs": {"slo_ttft_ms": 5.0}}
    sent = dict(server.scopes[0]["headers"])
    assert int(sent[b"content-length"]) == len(server.bodies[0])
    assert b"transfer-encoding" not in sent


async def test_client_that_leaves_while_sending_is_dropped() -> None:
    server = FakeServer(FakeEngine(), CONFIG)
    user = client(server)
    user.leave()
    reply = await user.request("POST", PATH, [])
    assert reply.sent == []
    assert server.bodies == []


async def test_text_survives_being_written_again() -> None:
    content = 'scorpio: "\u2028🦂 \\ud800 \x00 \\" 1e400'
    body = CHAT | {"messages": [{"role": "user", "content": content}], "seed": 2**63 - 1}
    raw = json.dumps(body, ensure_ascii=False).encode()
    _, server = await post(raw, {"x-slo-ttft-ms": "5"})
    assert server.body == json.loads(raw) | {"vllm_xargs": {"slo_ttft_ms": 5.0}}
