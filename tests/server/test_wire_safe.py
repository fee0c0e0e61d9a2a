"""Does nothing reach vLLM that it would register and then fail to hand to its engine process?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from scorpio.server.request.endpoints import ENDPOINTS
from scorpio.server.request.wire_safe import MOST_DEPTH, MOST_XARGS_BYTES
from scorpio.server.state.metrics import MALFORMED
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, tokens
from tests.server.posting import CHAT, CONFIG, WITH_DEFAULT, post


def nested(levels: int, kind: str = "[]") -> bytes:
    opened, closed = (b"[", b"]") if kind == "[]" else (b'{"a":', b"}")
    return opened * levels + b"0" + closed * levels


LONE = b'"\\ud800"'
CASES = [
    (b'{"user":' + LONE + b"}", "user"),
    (b'{"stop":["a",' + LONE + b"]}", "stop"),
    (b'{"cache_salt":"x\\uDFFFy"}', "cache_salt"),
    (b'{"vllm_xargs":{"mine":' + LONE + b"}}", "vllm_xargs"),
    (b'{"vllm_xargs":{' + LONE + b":1}}", "vllm_xargs"),
    (b'{"messages":[{"role":"user","content":' + LONE + b"}]}", "messages"),
    (b'{"structured_outputs":{"choice":[' + LONE + b"]}}", "structured_outputs"),
    (b'{"user":"\xed\xa0\x80"}', "user"),  # json.loads lets these bytes through
    ('{"user":"\\ud800"}'.encode("utf-16"), "user"),
    (b'{"priority":' + b"9" * 30 + b"}", "priority"),
    (b'{"top_k":-9223372036854775809}', "top_k"),
    (b'{"vllm_xargs":{"mine":18446744073709551616}}', "vllm_xargs"),
    (b'{"stop_token_ids":[1,18446744073709551616]}', "stop_token_ids"),
    (b'{"tools":' + nested(MOST_DEPTH) + b"}", "tools"),
    (b'{"tools":' + nested(900) + b"}", "tools"),
    (b'{"response_format":' + nested(MOST_DEPTH, "{}") + b"}", "response_format"),
    (nested(100_000), "body"),
    (nested(100_000, "{}"), "body"),
    (b'{"vllm_xargs":{"mine":"' + b"x" * MOST_XARGS_BYTES + b'"}}', "vllm_xargs"),
]


@pytest.mark.parametrize("config", [{}, WITH_DEFAULT])
@pytest.mark.parametrize(("raw", "field"), CASES)
async def test_400_names_the_field_and_vllm_never_sees_it(
    raw: bytes, field: str, config: dict[str, Any]
) -> None:
    reply, server = await post(raw, config=config)
    assert (reply.status, reply.json()["error"]["param"]) == (400, field)
    assert server.bodies == []


@pytest.mark.parametrize("path", [p for p, e in ENDPOINTS.items() if e.xargs_path is not None])
async def test_on_every_route_that_carries_xargs(path: str) -> None:
    reply, server = await post(b'{"stop":[' + LONE + b"]}", path=path)
    assert (reply.status, server.bodies) == (400, [])


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user":"\\ud83d\\ude00"}',
        '{"user":"\U0001f600 \u2028"}'.encode(),
        b'{"user":"\\\\ud800"}',
        b'{"seed":9223372036854775807,"x":18446744073709551615,"y":-9223372036854775808}',
        b'{"x":1e400,"y":0.12345678901234567890123,"z":"12345678901234567890123"}',
        b'{"tools":' + nested(MOST_DEPTH - 1) + b"}",
        b'{"messages":[' + b",".join([b'{"role":"user"}'] * 300) + b"]}",
    ],
)
async def test_what_can_cross_passes_byte_for_byte(raw: bytes) -> None:
    reply, server = await post(raw)
    assert (reply.status, server.bodies) == (200, [raw])


async def test_names_that_clients_make_up_are_no_labels() -> None:
    other = MALFORMED.labels("tiny", "other")._value
    before, series = other.get(), len(MALFORMED._metrics)
    for number in range(5):
        field = f"made-up-{number}" * 1000
        reply, _ = await post(json.dumps({field: 2**70}).encode())
        assert reply.json()["error"]["param"] == field[:64]
    assert (other.get(), len(MALFORMED._metrics)) == (before + 5, series)


@pytest.mark.parametrize("extra", [{"mine": "\ud800"}, {"mine": 2**64}])
async def test_values_of_a_form_are_tried_before_vllm_registers(extra: dict[str, Any]) -> None:
    """/v1/audio takes `vllm_xargs` out of a form, which is looked at nowhere else."""
    seen: list[str] = []

    async def behave(server: FakeServer, raw: bytes, receive: Any, send: Any) -> None:
        params = fake.SamplingParams(extra)
        try:
            server.handler.engine_client.generate("p", params, "id")
        except ValueError as error:  # vLLM makes a 400 of it
            seen.append(str(error))
        await fake.start(send, "application/json", 400)
        await send({"type": "http.response.body", "body": b"{}"})

    engine = FakeEngine([tokens(1)])
    server = FakeServer(engine, CONFIG, behave=behave)
    await client(server).request("POST", "/v1/audio/transcriptions", b"--x", json_type=False)
    assert engine.params == []
    assert seen[0].startswith("a sampling parameter holds")


async def test_an_ordinary_body_is_still_folded() -> None:
    _, server = await post(CHAT | {"user": "J\u00fcrgen \U0001f600"}, config=WITH_DEFAULT)
    assert server.body["vllm_xargs"] == {"slo_tenant": "J\u00fcrgen \U0001f600"}
