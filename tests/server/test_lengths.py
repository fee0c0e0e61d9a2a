"""Does the engine get the server's own length predictions, and does the server learn from them?"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from predictors.length.histogram import HistogramTable
from predictors.length.ladder import LengthLadder
from scorpio.server.middleware import ScorpioMiddleware
from scorpio.server.request.lengths import LengthService
from scorpio.server.request.prompt_text import (
    KEPT_CHARS,
    MOST_TURNS,
    NO_TEXT,
    PromptText,
    prompt_text,
)
from tests.server.fake_vllm import FakeEngine, SamplingParams, choice, client, output, tokens
from tests.server.posting import CHAT, CONFIG, PATH
from tests.server.test_metrics import MetricsServer

PROMPT = {"prompt_token_ids": [1, 2, 3]}


def service(answers: int = 0, length: int = 40) -> LengthService:
    """A service that has seen `answers` answers of `length` tokens."""
    table = HistogramTable()
    for _ in range(answers):
        table.everything.add(length)
    return LengthService(LengthLadder(table=table), "tiny")


class Broken(LengthLadder):
    """Fails wherever it is asked."""

    def predict(self, request: Any) -> Any:
        raise RuntimeError("broken")


def user(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [user("hi")]}, PromptText("hi")),
        ({"prompt": "hi"}, PromptText("hi")),
        ({"prompt": ["hi"]}, PromptText("hi")),
        ({"input": "hi", "instructions": "be brief"}, PromptText("hi", "be brief")),
        ({"input": [user([{"type": "input_text", "text": "hi"}])]}, PromptText("hi")),
        ({"system": [{"text": "sys"}], "messages": [user("hi")]}, PromptText("hi", "sys")),
        (
            {
                "messages": [
                    {"role": "system", "content": "sys"},
                    user("first"),
                    {"role": "assistant", "content": "no"},
                    user([{"text": "a"}, {"image_url": 3}, 7, {"text": "b"}]),
                ]
            },
            PromptText("a\nb", "sys", 2),
        ),
        ({"prompt": ["a", "b"]}, NO_TEXT),
        ({"prompt": [1, 2]}, NO_TEXT),
        ({"messages": []}, NO_TEXT),
        ({"messages": ["x", 3, None, {"role": "user", "content": 5}]}, NO_TEXT),
        ({"messages": {"role": "user"}, "prompt": 7, "input": None}, NO_TEXT),
        ({}, NO_TEXT),
    ],
)
def test_text_of_a_body(body: dict[str, Any], expected: PromptText) -> None:
    assert prompt_text(body) == expected


def test_huge_bodies_cost_bounded_work() -> None:
    text = prompt_text({"messages": [user("a" * 10_000_000 + "the end")]})
    assert len(text.prompt) == KEPT_CHARS
    assert text.prompt.endswith("the end")
    assert prompt_text({"messages": [user("a")] * 100_000}).turn == MOST_TURNS


def test_predictions_replace_what_a_client_wrote() -> None:
    params = SamplingParams(
        {"predicted_output_tokens": 1, "predicted_output_quantiles": [1, 1, 1], "slo_ttft_ms": 5}
    )
    assert service().tell(params, PROMPT) is not None
    assert params.extra_args == {"slo_ttft_ms": 5}  # nothing known: max_tokens, and no client's
    service(100).tell(params, PROMPT)
    assert params.extra_args is not None
    low, middle, high = params.extra_args["predicted_output_quantiles"]
    assert 30 < low <= middle <= high < 50
    assert 30 < params.extra_args["predicted_output_tokens"] < 50
    forged = SamplingParams({"predicted_output_tokens": 1})
    assert LengthService(Broken(), "tiny").tell(forged, PROMPT) is None
    assert forged.extra_args is None


@pytest.mark.parametrize(
    "params", [SamplingParams(ignore_eos=True), SamplingParams(max_tokens=1), SimpleNamespace()]
)
def test_nothing_to_predict(params: Any) -> None:
    params.extra_args = None
    assert service(100).tell(params, PROMPT) is None
    assert params.extra_args is None


async def learned(outputs: list[Any], delta: bool = True) -> dict[str, Any]:
    """State of a ladder that watched these outputs."""
    lengths = service()
    params = SamplingParams(output_kind=SimpleNamespace(name="DELTA" if delta else "CUMULATIVE"))
    asked = lengths.tell(params, PROMPT)
    assert asked is not None
    seen = [o async for o in lengths.watch(FakeEngine()._stream(outputs), asked)]
    assert seen == outputs
    everything = lengths._ladder._table.everything.quantiles_z()
    return lengths.state() | {"median": None if everything is None else everything[2]}


async def test_lengths_of_answers_are_learned() -> None:
    state = await learned(tokens(31))
    assert state["observed"] == 1
    assert state["median"] == pytest.approx(3.466 + 0.09, abs=0.1)  # log(1 + 31), mid-bin
    whole = [output(choice([1])), output(choice([1] * 31, "stop"), finished=True)]
    assert (await learned(whole, delta=False))["median"] == state["median"]


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [output(choice([1]))],
        [output(choice([1])), output(choice([], "abort"), finished=True)],
        [output(choice([], "abort", "scorpio:ttft_infeasible"), finished=True)],
        [output(choice([], "error"), finished=True)],
    ],
)
async def test_answers_without_an_end_teach_nothing(outputs: list[Any]) -> None:
    state = await learned(outputs)
    assert (state["observed"], state["server_failures"]) == (0, 0)


async def test_outputs_that_cannot_be_read_still_pass() -> None:
    state = await learned([SimpleNamespace(outputs=[SimpleNamespace()])])
    assert (state["observed"], state["server_failures"]) == (0, 1)


class Http:
    """Several requests to one server behind one middleware."""

    def __init__(self, answers: int) -> None:
        self.server = MetricsServer(FakeEngine([tokens(12) for _ in range(answers)]), CONFIG)
        self._middleware = ScorpioMiddleware(self.server)

    async def post(self, body: Any) -> int:
        raw = json.dumps(body).encode()
        reply = await client(self.server, self._middleware).request("POST", PATH, raw)
        return reply.status

    async def metrics(self) -> str:
        reply = await client(self.server, self._middleware).request("GET", "/metrics")
        return reply.body.decode()


async def test_from_http_to_the_engine_and_back() -> None:
    http = Http(40)
    for _ in range(40):
        assert await http.post(CHAT) == 200
    first, last = (http.server.engine.params[at].extra_args for at in (0, -1))
    assert first is None
    assert last is not None
    assert 8 < last["predicted_output_tokens"] < 20
    page = await http.metrics()
    labels = 'engine="0",model_name="tiny"'
    assert f'scorpio_length_predictions_total{{{labels},rung="histogram"}} 9.0' in page
    assert f"scorpio_length_outcomes_total{{{labels}}} 40.0" in page
    assert f'scorpio_length_prediction_seconds{{{labels},quantile="0.99"}}' in page


async def test_a_broken_predictor_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LengthLadder, "predict", Broken.predict)
    http = Http(1)
    assert await http.post(CHAT) == 200
    assert http.server.engine.params[0].extra_args is None
    assert 'scorpio_length_failures_total{engine="0",model_name="tiny"} 1.0' in await http.metrics()
