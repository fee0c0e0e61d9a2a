"""Is a refusal told as HTTP, exactly once, and never after a token?"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.types import Receive, Send

from scorpio.core.plan import RejectReason
from scorpio.core.slo import NO_SLO, Slo
from scorpio.core.wire import RejectionNotice
from scorpio.server.request.rejection import REASONS, refusal_answer
from tests.server import fake_vllm as fake
from tests.server.fake_vllm import FakeEngine, FakeServer, client, refused, tokens

CHAT = (
    b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"vllm_xargs":{"slo_ttft_ms":1}}'
)
PATH = "/v1/chat/completions"


@pytest.mark.parametrize("behave", [fake.answer_chat, fake.stream_chat])
async def test_refusal_becomes_429(behave: Any) -> None:
    server = FakeServer(FakeEngine([refused()]), behave=behave)
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.status == 429
    assert reply.complete
    assert reply.json() == {
        "error": {
            "message": "predicted TTFT 0.124 s > SLO 0.001 s",
            "type": "Too Many Requests",
            "param": "slo_ttft_ms",
            "code": 429,
            "request_id": "id",
        }
    }
    headers = reply.headers
    assert headers["x-scorpio-request-id"] == "id"  # by which `scorpio explain` knows it
    assert headers["retry-after"] == "3"
    assert headers["retry-after-ms"] == "2400"
    assert headers["x-scorpio-reject-reason"] == "ttft_infeasible"
    assert headers["x-scorpio-attainable-ttft-ms"] == "124"
    assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(reply.body))
    assert headers["x-request-id"] == "abc"  # set by vLLM's own middleware, still true
    assert "x-should-retry" not in headers


@pytest.mark.parametrize(
    ("headers", "said", "param"),
    [
        ({"x-slo-ttft-ms": "1"}, {}, "x-slo-ttft-ms"),
        ({"x-llm-d-slo-ttft-ms": "1", "x-slo-ttft-ms": "9"}, {}, "x-llm-d-slo-ttft-ms"),
        ({"x-slo-ttft-ms": "1"}, {"vllm_xargs": {"slo_ttft_ms": 2}}, "x-slo-ttft-ms"),
        ({}, {"vllm_xargs": {"slo_ttft_ms": 1}}, "slo_ttft_ms"),
        ({"x-slo-ttft-ms": "9"}, {"vllm_xargs": {"slo_e2el_ms": 5}}, "slo_e2el_ms"),
        ({}, {"vllm_xargs": {"slo_class": "chat"}}, "slo_class"),
        ({"x-llm-d-inference-objective": "chat"}, {}, "x-llm-d-inference-objective"),
        ({}, {"service_tier": "priority"}, "service_tier"),
        ({}, {"vllm_xargs": {"slo_class": "chat", "slo_tpot_ms": 9}}, "slo_class"),
        ({}, {}, None),  # the server's default class: the client said nothing
    ],
)
async def test_param_is_the_clients_own_word(
    headers: dict[str, str], said: dict[str, Any], param: str | None
) -> None:
    settings = {
        "classes": {"chat": {"ttft_ms": 1}, "usual": {"ttft_ms": 2}},
        "service_tiers": {"priority": "chat"},
        "default_class": "usual",
    }
    body = json.dumps({"model": "tiny", "messages": []} | said).encode()
    server = FakeServer(FakeEngine([refused()]), settings)
    reply = await client(server).request("POST", PATH, body, headers=headers)
    assert (reply.status, reply.json()["error"]["param"]) == (429, param)


async def test_never_attainable_says_do_not_retry() -> None:
    server = FakeServer(FakeEngine([refused(fake.NEVER)]))
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.headers["x-should-retry"] == "false"
    assert not reply.headers.keys() & {"retry-after", "retry-after-ms"}
    assert reply.json()["error"]["message"].endswith(", not even by an idle engine")


async def test_without_a_promised_time_it_says_do_not_retry_but_not_never() -> None:
    server = FakeServer(FakeEngine([refused("scorpio:tpot_infeasible")]))
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.headers["x-should-retry"] == "false"
    assert not reply.headers.keys() & {"retry-after", "retry-after-ms"}
    assert "idle engine" not in reply.json()["error"]["message"]


async def test_status_503_when_configured() -> None:
    server = FakeServer(FakeEngine([refused()]), {"rejection_status": 503})
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.status == 503
    assert reply.json()["error"]["type"] == "Service Unavailable"


async def test_messages_get_the_anthropic_envelope() -> None:
    server = FakeServer(FakeEngine([refused()]))
    reply = await client(server).request("POST", "/v1/messages", CHAT)
    assert reply.json()["type"] == "error"
    assert reply.json()["error"]["code"] == 429
    assert reply.json()["error"]["type"] == "rate_limit_error"
    assert reply.json()["request_id"] == "id"  # where Anthropic's own answers have it
    assert "request_id" not in reply.json()["error"]


async def test_user_text_that_looks_like_a_refusal_is_text() -> None:
    text = fake.chat_body('scorpio:ttft_infeasible","stop_reason":"scorpio:x', "stop", None)

    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        async for _ in server.handler.engine_client.generate("p", fake.SamplingParams(), "id"):
            pass
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": text})

    # even when the user's own stop string is the very word: it stops, it does not abort
    stopped = [fake.output(fake.choice([7], "stop", fake.STOP_REASON), finished=True)]
    reply = await client(FakeServer(FakeEngine([stopped]), behave=behave)).request(
        "POST", PATH, CHAT
    )
    assert reply.status == 200
    assert reply.body == text


async def test_abort_that_is_not_ours_is_left_alone() -> None:
    server = FakeServer(FakeEngine([[fake.output(fake.choice([], "abort"), finished=True)]]))
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.status == 200
    assert reply.json()["choices"][0]["finish_reason"] == "abort"


async def test_no_429_after_a_token() -> None:
    late = [
        fake.output(fake.choice([1])),
        fake.output(fake.choice([], "abort", fake.STOP_REASON), finished=True),
    ]
    server = FakeServer(FakeEngine([late]), behave=fake.stream_chat)
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.status == 200
    assert reply.chunks[-2] == fake.DONE


async def _two(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
    """Two prompts in one request, merged output by output."""
    calls = [
        server.handler.engine_client.generate("p", fake.SamplingParams(), str(i)) for i in range(2)
    ]
    await fake.start(send, "text/event-stream")
    for stream in calls:
        async for _ in stream:
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": fake.DONE, "more_body": False})


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([refused(), refused()], 429),
        ([refused(), tokens(2)], 200),
        ([tokens(2), refused()], 200),
        ([tokens(2), tokens(2)], 200),
    ],
)
async def test_half_refused_is_not_refused(answers: list[Any], status: int) -> None:
    server = FakeServer(FakeEngine(answers), behave=_two)
    reply = await client(server).request("POST", PATH, CHAT)
    assert reply.status == status
    assert reply.complete


async def test_parallel_samples_are_refused_only_together() -> None:
    """n > 1: one engine client call, outputs of its children one by one."""
    one_left = [
        fake.output(fake.choice([], "abort", fake.STOP_REASON)),
        fake.output(fake.choice([3], "length"), finished=True),
    ]
    both = [fake.output(fake.choice([], "abort", fake.STOP_REASON)), *refused()]
    for answer, status in ((one_left, 200), (both, 429)):
        server = FakeServer(FakeEngine([answer]))
        assert (await client(server).request("POST", PATH, CHAT)).status == status


async def test_a_handler_that_chokes_on_the_empty_answer_is_still_a_429() -> None:
    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        async for _ in server.handler.engine_client.generate("p", fake.SamplingParams(), "id"):
            pass
        raise IndexError("no tokens")

    refusing = client(FakeServer(FakeEngine([refused()]), behave=behave))
    assert (await refusing.request("POST", PATH, CHAT)).status == 429
    with pytest.raises(IndexError):
        await client(FakeServer(FakeEngine([tokens(1)]), behave=behave)).request("POST", PATH, CHAT)


async def test_later_engine_requests_of_one_http_request_wait() -> None:
    """Tool turns and beam steps come after the first token: they must not be refused."""

    async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
        for turn in range(2):
            params = fake.SamplingParams({"slo_ttft_ms": 1})
            async for _ in server.handler.engine_client.generate("p", params, str(turn)):
                pass
        await fake.start(send, "application/json")
        await send({"type": "http.response.body", "body": b"{}"})

    engine = FakeEngine([tokens(1), tokens(1)])
    await client(FakeServer(engine, behave=behave)).request("POST", PATH, CHAT)
    assert [p.extra_args for p in engine.params] == [
        {"slo_ttft_ms": 1},
        {"slo_ttft_ms": 1, "slo_on_miss": "wait"},
    ]


async def test_routes_without_xargs_are_never_refused() -> None:
    engine = FakeEngine([tokens(1)])
    server = FakeServer(engine)
    await client(server).request("POST", "/v1/audio/transcriptions", b"--x", json_type=False)
    assert engine.params[0].extra_args == {"slo_on_miss": "wait"}
    assert server.bodies == [b"--x"]


def test_an_id_that_a_client_chose_fits_into_a_header() -> None:
    notice = RejectionNotice(RejectReason.QUEUE_FULL, 1000, None)
    for name in ("chatcmpl-a/b:c", "é\r\nset-cookie: x", "\ud800", "x y"):
        answer = refusal_answer(notice, NO_SLO, 429, request_id=name)
        sent = answer.headers["x-scorpio-request-id"]
        assert re.fullmatch(r"[!-~]+", sent)
        assert (sent == name) == (name == "chatcmpl-a/b:c")
        assert json.loads(answer.body)["error"]["request_id"] == name
    answer = refusal_answer(notice, NO_SLO, 429)  # refused before it had one
    assert "x-scorpio-request-id" not in answer.headers
    assert "request_id" not in json.loads(answer.body)["error"]


@pytest.mark.parametrize("reason", list(RejectReason))
def test_every_reason_has_words(reason: RejectReason) -> None:
    for retry_ms in (None, 0, 1, 1000, 10**9):
        answer = refusal_answer(RejectionNotice(reason, retry_ms, None), NO_SLO, 429)
        assert answer.headers["x-scorpio-reject-reason"] == reason.value
        assert answer.headers["x-llm-d-request-dropped-reason"] in (
            "rejected-saturated",
            "rejected-ttl-expired",
        )
        if retry_ms is not None:
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert 1 <= int(answer.headers["retry-after-ms"]) <= 30_000
        assert REASONS[reason].text.encode() in answer.body


def test_message_needs_both_numbers() -> None:
    notice = RejectionNotice(RejectReason.TTFT_INFEASIBLE, 1, 2400)
    assert b"predicted TTFT 2.4 s > SLO 0.5 s" in refusal_answer(notice, Slo(ttft_s=0.5), 429).body
    assert b"predicted" not in refusal_answer(notice, NO_SLO, 429).body
