"""Do the clients of OpenAI and Anthropic do with a refusal what it says? With their own retries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer
from tests.server.keyed import ACME, BETA

pytestmark = ENGINE_MARKS
HOPELESS = {"x-slo-ttft-ms": "1"}
ASKED: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 4,
    "temperature": 0,
}
TO_CLAUDE: dict[str, Any] = {
    **{name: value for name, value in ASKED.items() if name != "temperature"},
    "extra_body": {"temperature": 0},
}
_TRIES = 5  # a slow machine may have paid for the last answer before it asks again


@pytest.fixture
def claude(keyed_server: EngineServer) -> Iterator[Any]:
    """Anthropic's client, of a tenant without limits."""
    with anthropic.Anthropic(base_url=keyed_server.url, api_key=BETA, max_retries=3) as client:
        yield client


def base_url(server: EngineServer) -> str:
    return f"{server.url}/v1"


async def test_openai_async(keyed_server: EngineServer) -> None:
    async with openai.AsyncOpenAI(base_url=base_url(keyed_server), api_key=BETA) as client:
        whole = await client.chat.completions.create(**ASKED)
        stream = await client.chat.completions.create(stream=True, **ASKED)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(parts) == whole.choices[0].message.content != ""
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(stream=True, extra_headers=HOPELESS, **ASKED)
    assert caught.value.response.headers["x-scorpio-reject-reason"] == "ttft_infeasible"


async def test_openai_async_comes_back_when_it_is_told(keyed_server: EngineServer) -> None:
    async with openai.AsyncOpenAI(base_url=base_url(keyed_server), api_key=ACME) as client:
        for _ in range(_TRIES):
            done = await client.chat.completions.with_raw_response.create(**ASKED)
            if done.retries_taken:
                break
    # with waits of its own (0.5 s, 1 s, ...) the second try would have come too early as well
    assert (done.retries_taken, done.parse().usage.completion_tokens) == (1, 4)


def test_openai_comes_back_when_it_is_told(keyed_server: EngineServer) -> None:
    with openai.OpenAI(base_url=base_url(keyed_server), api_key=ACME) as client:
        for _ in range(_TRIES):
            done = client.chat.completions.with_raw_response.create(**ASKED)
            if done.retries_taken:
                break
    assert (done.retries_taken, done.parse().usage.completion_tokens) == (1, 4)


def test_openai_does_not_come_back_in_vain(keyed_server: EngineServer) -> None:
    """Not even an idle engine could: `x-should-retry: false`."""
    with (
        openai.OpenAI(base_url=base_url(keyed_server), api_key=BETA, max_retries=3) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(extra_headers=HOPELESS, **ASKED)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"


def test_anthropic_is_served(claude: Any) -> None:
    whole = claude.messages.create(**TO_CLAUDE)
    assert (whole.usage.output_tokens, whole.stop_reason) == (4, "max_tokens")
    with claude.messages.stream(**TO_CLAUDE) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text != ""


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_hears_a_refusal_with_its_reason(claude: Any, stream: bool) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        claude.messages.create(stream=stream, extra_headers=HOPELESS, **TO_CLAUDE)
    headers = caught.value.response.headers
    assert headers["x-scorpio-reject-reason"] == "ttft_infeasible"
    assert int(headers["x-scorpio-attainable-ttft-ms"]) >= 20
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"
    assert "TTFT" in str(caught.value)


def test_anthropic_comes_back_when_it_is_told(keyed_server: EngineServer) -> None:
    with anthropic.Anthropic(base_url=keyed_server.url, api_key=ACME) as client:
        for _ in range(_TRIES):
            done = client.messages.with_raw_response.create(**TO_CLAUDE)
            if done.retries_taken:
                break
    assert (done.retries_taken, done.parse().usage.output_tokens) == (1, 4)
