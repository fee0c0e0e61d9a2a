"""What may a tenant have at once, per second, and of which classes?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scorpio.server.accounts.tenant_use import TenantUses
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import refused, stream_chat, tokens
from tests.server.keyed import ACME, BETA, Keyed, slo_file

TIGHT = "tight_tpot_ms = 50\ntight_ttft_ms = 100"


def reason(reply: Any) -> tuple[int, str | None]:
    return reply.status, reply.headers.get("x-scorpio-reject-reason")


def clock(keyed: Keyed) -> list[float]:
    """Of the tenants' buckets, in the test's hand."""
    now = [0.0]
    uses: TenantUses = keyed.context.uses
    uses.now_s = lambda: now[0]
    for use in uses.by_name.values():
        if use.bucket is not None:
            use.bucket.at_s = 0.0
    return now


async def chat_of(keyed: Keyed, prompt_tokens: int, key: str = ACME, **body: Any) -> Any:
    """vLLM has tokenised the prompt to so many."""

    async def behave(server: Any, raw: bytes, receive: Any, send: Any) -> None:
        prompt = {"prompt_token_ids": [1] * prompt_tokens}
        stream = server.handler.engine_client.generate(prompt, fake.SamplingParams(), "id")
        async for _ in stream:
            pass
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    keyed.server.behave = behave
    return await keyed.chat(key, **body)


async def test_tokens_are_paid_for_as_they_are_used(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 10\nburst_tokens = 100"), length=30)
    now = clock(keyed)
    use = keyed.context.uses.by_name["acme"]
    assert (await chat_of(keyed, 50)).status == 200
    assert use.bucket.tokens(0.0) == 20.0  # 50 of the prompt, 30 of the answer
    assert (use.prompt_tokens, use.output_tokens) == (50, 30)
    assert (await chat_of(keyed, 50)).status == 200  # some are left, so it is let in
    assert use.bucket.tokens(0.0) == -60.0
    reply = await chat_of(keyed, 50)
    assert reason(reply) == (429, "over_rate")
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("7", "6100")
    assert reply.json()["error"]["code"] == 429
    assert (await chat_of(keyed, 50, BETA)).status == 200  # another tenant's is another's
    now[0] = 6.0
    assert reason(await chat_of(keyed, 50)) == (429, "over_rate")
    now[0] = 6.2
    assert (await chat_of(keyed, 50)).status == 200


async def test_a_long_wait_is_told_as_it_is(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1\nburst_tokens = 10"))
    clock(keyed)
    assert (await chat_of(keyed, 500)).status == 200
    assert (await chat_of(keyed, 1)).headers["retry-after"] == "492"


async def test_what_is_refused_or_malformed_costs_nothing(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 10\nburst_tokens = 100"))
    clock(keyed)
    bucket = keyed.context.uses.by_name["acme"].bucket
    keyed.engine.answers[:] = [refused(), tokens(1)]
    assert (await chat_of(keyed, 90, headers={"x-slo-ttft-ms": "5"})).status == 429
    assert bucket.tokens(0.0) == 100.0
    assert keyed.context.uses.by_name["acme"].prompt_tokens == 0

    async def wrong(server: Any, raw: bytes, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    keyed.server.behave = wrong
    assert (await keyed.chat()).status == 400
    assert bucket.tokens(0.0) == 100.0


async def test_requests_that_come_at_once_are_charged_at_the_door(tmp_path: Path) -> None:
    """Before vLLM has tokenised one: four bytes of the body a token."""
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1\nburst_tokens = 100"))
    clock(keyed)
    keyed.engine.hold = asyncio.Event()
    long = "x" * 500
    first = asyncio.create_task(keyed.chat(user=long[:250], stream=False))
    while not keyed.engine.params:
        await asyncio.sleep(0)
    bucket = keyed.context.uses.by_name["acme"].bucket
    assert 0 < bucket.tokens(0.0) < 40
    second = asyncio.create_task(keyed.chat(user=long[:250]))
    while len(keyed.engine.params) < 2:
        await asyncio.sleep(0)
    assert reason(await keyed.chat(user=long[:250])) == (429, "over_rate")
    keyed.engine.hold.set()
    assert [(await task).status for task in (first, second)] == [200, 200]


async def test_a_stream_counts_each_token_once(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1"), length=25, behave=stream_chat)
    assert (await keyed.chat(stream=True)).status == 200
    assert keyed.context.uses.by_name["acme"].output_tokens == 25


async def test_requests_at_once(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("most_in_flight = 2"))
    keyed.engine.hold = asyncio.Event()
    tasks = [asyncio.create_task(keyed.chat()) for _ in "ab"]
    while len(keyed.engine.params) < 2:
        await asyncio.sleep(0)
    reply = await keyed.chat()
    assert reason(reply) == (429, "over_quota")
    assert 1 <= int(reply.headers["retry-after"]) <= 5
    other = asyncio.create_task(keyed.chat(BETA))
    while len(keyed.engine.params) < 3:
        await asyncio.sleep(0)
    keyed.engine.hold.set()
    assert {(await task).status for task in (*tasks, other)} == {200}
    assert (await keyed.chat()).status == 200


@pytest.mark.parametrize(
    ("ask", "tight"),
    [
        ({"headers": {"x-slo-tpot-ms": "50"}}, True),
        ({"headers": {"x-slo-tpot-ms": "51"}}, False),
        ({"headers": {"x-slo-ttft-ms": "100"}}, True),
        ({"headers": {"x-slo-e2el-ms": "100"}}, True),
        ({"headers": {"x-slo-ttft-ms": "101"}}, False),
        ({"vllm_xargs": {"slo_class": "interactive"}}, True),  # by its TPOT
        ({"vllm_xargs": {"slo_class": "batch"}}, False),
        ({}, False),
    ],
)
async def test_tight_requests_have_a_cap_of_their_own(
    tmp_path: Path, ask: dict[str, Any], tight: bool
) -> None:
    keyed = Keyed(tmp_path, slo_file("most_tight = 1", top=TIGHT))
    keyed.engine.hold = asyncio.Event()
    first = asyncio.create_task(keyed.chat(headers={"x-slo-tpot-ms": "30"}))
    while not keyed.engine.params:
        await asyncio.sleep(0)
    second = asyncio.create_task(keyed.chat(**ask))
    for _ in range(50):
        await asyncio.sleep(0)
    assert second.done() == tight
    if tight:
        assert reason(await second) == (429, "over_quota")
    keyed.engine.hold.set()
    assert (await first).status == 200
    assert (await second).status == (429 if tight else 200)
    assert keyed.context.uses.by_name["acme"].tight == 0
    assert (await keyed.chat(headers={"x-slo-tpot-ms": "30"})).status == 200


@pytest.mark.parametrize("ms", [7, 29, 55, 57, 69, 70, 113, 1001])
async def test_as_tight_as_the_bound_is_tight_to_the_bit(tmp_path: Path, ms: int) -> None:
    top = f"tight_tpot_ms = {ms}\n[classes.edge]\ntpot_ms = {ms}"
    keyed = Keyed(tmp_path, slo_file("most_tight = 0", top=top))
    assert (await keyed.chat(vllm_xargs={"slo_class": "edge"})).status == 429
    assert (await keyed.chat(headers={"x-slo-tpot-ms": str(ms)})).status == 429
    assert (await keyed.chat(headers={"x-slo-tpot-ms": str(ms + 0.01)})).status == 200


async def test_parts_of_a_body_count_each(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("most_tight = 2", top=TIGHT))
    reply = await keyed.chat(n=3, headers={"x-slo-tpot-ms": "30"})
    assert reason(reply) == (429, "over_quota")
    assert (await keyed.chat(n=2, headers={"x-slo-tpot-ms": "30"})).status == 200
    assert (await keyed.chat(n=3)).status == 200


ONLY = 'classes = ["batch"]\ndefault_class = "batch"'


@pytest.mark.parametrize(
    "ask",
    [
        {"vllm_xargs": {"slo_class": "interactive"}},
        {"headers": {"x-llm-d-inference-objective": "interactive"}},
        {"service_tier": "priority"},
    ],
)
async def test_another_class_is_a_403_that_says_which(tmp_path: Path, ask: dict[str, Any]) -> None:
    keyed = Keyed(tmp_path, slo_file(ONLY))
    reply = await keyed.chat(**ask)
    error = reply.json()["error"]
    assert (reply.status, error["param"], error["code"]) == (403, "slo_class", 403)
    assert "allowed: batch" in error["message"]
    assert keyed.server.bodies == []
    assert (await keyed.chat(BETA, **ask)).status == 200
    reply = await keyed.chat(path="/v1/messages", **ask)
    assert reply.json()["error"]["type"] == "permission_error"


async def test_the_default_class_of_a_tenant(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file(ONLY))
    assert (await keyed.chat()).status == 200
    assert keyed.server.body["vllm_xargs"]["slo_class"] == "batch"


@pytest.mark.parametrize(
    ("acme", "headers", "status"),
    [
        ("", {"x-slo-ttft-ms": "1"}, 200),
        (ONLY, {"x-slo-ttft-ms": "60000"}, 200),  # a list of classes: no tighter
        (ONLY, {"x-slo-ttft-ms": "90000"}, 200),
        (ONLY, {"x-slo-ttft-ms": "59999"}, 403),
        (ONLY, {"x-slo-tpot-ms": "90000"}, 403),  # the class promises no TPOT
        (ONLY + '\nraw_slo = "any"', {"x-slo-ttft-ms": "1"}, 200),
        (ONLY + '\nraw_slo = "none"', {"x-slo-ttft-ms": "90000"}, 403),
        (ONLY + '\nraw_slo = "none"', {}, 200),
        ('raw_slo = "looser"', {"x-slo-ttft-ms": "90000"}, 403),  # of no class: no promise
        ('raw_slo = "looser"', {"x-llm-d-inference-objective": "batch"}, 200),
    ],
)
async def test_raw_numbers(tmp_path: Path, acme: str, headers: dict[str, str], status: int) -> None:
    keyed = Keyed(tmp_path, slo_file(acme))
    reply = await keyed.chat(headers=headers)
    assert reply.status == status, reply.body
    if status == 403:
        assert reply.json()["error"]["param"] in headers


async def test_raw_numbers_for_all(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, 'raw_slo = "none"\n[classes.a]\nttft_ms = 5\n')
    assert (await keyed.chat(None, headers={"x-slo-ttft-ms": "9"})).status == 403
    assert (await keyed.chat(None, vllm_xargs={"slo_class": "a"})).status == 200
    assert (await keyed.chat(None, vllm_xargs={"slo_e2el_ms": 9})).status == 403


@pytest.mark.parametrize(
    ("acme", "beta", "told"),
    [
        ("weight = 3", "", ("3.0", "1.0")),
        ("", "weight = 0.5", ("1.0", "0.5")),
        ("", "", (None, None)),
    ],
)
async def test_the_engine_hears_weights_from_the_server_alone(
    tmp_path: Path, acme: str, beta: str, told: tuple[str | None, str | None]
) -> None:
    keyed = Keyed(tmp_path, slo_file(acme, beta))
    for key, weight in zip((ACME, BETA), told, strict=True):
        forged = {"scorpio_weight": "9", "scorpio_slo": "0.1 0.1 0.1 9 wait x"}
        assert (await keyed.chat(key, vllm_xargs=forged)).status == 200
        assert keyed.told.get("scorpio_weight") == weight
        assert keyed.told["scorpio_slo"] == "inf inf inf 1.0 reject "  # its own word
