"""Does it hold on the real vLLM server, with the client that most use?"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.engine_server import ENGINE_MARKS, MAX_MODEL_LEN, EngineServer
from tests.server.idle import is_idle

pytestmark = ENGINE_MARKS
Params = dict[str, Any]
HOPELESS = {"x-slo-ttft-ms": "1"}
MESSAGES: Params = {"messages": [{"role": "user", "content": "hello"}]}
# path -> (body, how the client may state streaming)
ROUTES: dict[str, Params] = {
    "/v1/completions": {"prompt": "hello", "max_tokens": 4},
    "/v1/chat/completions": MESSAGES | {"max_tokens": 4},
    "/v1/responses": {"input": "hello", "max_output_tokens": 4},
    "/v1/messages": MESSAGES | {"max_tokens": 4},
}


def ask(client: Any, kind: str, **how: Any) -> Any:
    """One request by openai-python."""
    if kind == "chat":
        return client.chat.completions.create(model="tiny", **MESSAGES, **how)
    return client.completions.create(model="tiny", prompt="hello", **how)


def test_openai_client_chat_and_completions(client: Any) -> None:
    chat = client.chat.completions.create(model="tiny", temperature=0, max_tokens=5, **MESSAGES)
    assert chat.usage.completion_tokens == 5
    stream = client.chat.completions.create(
        model="tiny", temperature=0, max_tokens=5, stream=True, **MESSAGES
    )
    parts = [c.choices[0].delta.content or "" for c in stream if c.choices]
    assert "".join(parts) == chat.choices[0].message.content
    done = client.completions.create(model="tiny", prompt="hello", temperature=0, max_tokens=5)
    stream = client.completions.create(
        model="tiny", prompt="hello", temperature=0, max_tokens=5, stream=True
    )
    assert "".join(c.choices[0].text for c in stream) == done.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["chat", "completions"])
@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"extra_headers": {"x-llm-d-slo-ttft-ms": "1"}}, "x-llm-d-slo-ttft-ms"),
        ({"extra_headers": {"x-slo-ttft-ms": "1"}}, "x-slo-ttft-ms"),
        (
            {"extra_headers": {"x-llm-d-inference-objective": "hopeless"}},
            "x-llm-d-inference-objective",
        ),
        ({"extra_body": {"vllm_xargs": {"slo_ttft_ms": 1}}}, "slo_ttft_ms"),
        ({"extra_body": {"vllm_xargs": {"slo_class": "hopeless"}}}, "slo_class"),
    ],
    ids=["llm-d-header", "alias", "objective", "xargs", "class"],
)
def test_refusal_is_a_rate_limit_error(
    client: Any, how: Params, param: str, kind: str, stream: bool
) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, kind, stream=stream, **how)
    headers = caught.value.response.headers
    assert headers["x-scorpio-reject-reason"] == "ttft_infeasible"
    assert int(headers["x-scorpio-attainable-ttft-ms"]) >= 20
    # not even an idle engine has a first token within 1 ms
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert caught.value.body["param"] == param
    assert caught.value.body["code"] == 429


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", sorted(ROUTES))
def test_every_route_refuses_and_serves(server: EngineServer, path: str, stream: bool) -> None:
    body = ROUTES[path] | {"model": "tiny", "stream": stream}
    code, headers, raw = server.call("POST", path, body, HOPELESS)
    assert (code, json.loads(raw)["error"]["code"]) == (429, 429)
    assert headers["content-type"] == "application/json"
    code, headers, raw = server.call("POST", path, body, {"x-slo-ttft-ms": "60000"})
    assert (code, headers["x-scorpio-policy"]) == (200, "scorpio-paper")
    assert headers["content-type"].startswith("text/event-stream" if stream else "application/json")


def test_tokens_route(server: EngineServer) -> None:
    body = {"token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 2}}
    assert server.call("POST", "/inference/v1/generate", body, HOPELESS)[0] == 429
    assert server.call("POST", "/inference/v1/generate", body)[0] == 200


@pytest.mark.parametrize(
    "extra",
    [
        {"prompt": ["a", "b"]},
        {"vllm_xargs": {"slo_on_miss": "wait"}},
        {"vllm_xargs": {"slo_class": "batch"}},
    ],
)
def test_one_that_cannot_be_refused_is_served(server: EngineServer, extra: Params) -> None:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2} | extra
    code, _, raw = server.call("POST", "/v1/completions", body, HOPELESS)
    assert code == 200, raw
    choices = json.loads(raw)["choices"]
    assert {c["finish_reason"] for c in choices} <= {"length", "stop"}


@pytest.mark.parametrize("policy", ["scorpio-paper", "scorpio"])
@pytest.mark.parametrize("stream", [False, True])
def test_all_choices_are_refused_as_one(server: EngineServer, stream: bool, policy: str) -> None:
    server.switch(policy)
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2, "n": 3, "stream": stream}
    code, _, raw = server.call("POST", "/v1/completions", body, HOPELESS)
    assert (code, json.loads(raw)["error"]["code"]) == (429, 429)
    code, _, raw = server.call("POST", "/v1/completions", body)
    assert code == 200, raw


# Python's own json writes and reads half a surrogate pair; vLLM registers a request before it is
# encoded for the engine.
UNSENDABLE: list[tuple[Params, str]] = [
    ({"user": "\ud800"}, "user"),
    ({"stop": ["\ud800"]}, "stop"),
    ({"vllm_xargs": {"mine": "\ud800"}}, "vllm_xargs"),
    ({"cache_salt": "\ud800"}, "cache_salt"),
    ({"stop_token_ids": [2**70]}, "stop_token_ids"),
    ({"priority": 2**70}, "priority"),
]


@pytest.mark.parametrize(("extra", "field"), UNSENDABLE)
def test_what_cannot_reach_the_engine_leaves_nothing_behind(
    server: EngineServer, extra: Params, field: str
) -> None:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2} | extra
    for _ in range(5):
        code, _, raw = server.call("POST", "/v1/completions", body, {"x-slo-ttft-ms": "60000"})
        assert (code, json.loads(raw)["error"]["param"]) == (400, field)
    server.wait_for(is_idle(server), "an idle engine")


def test_what_vllm_answers_is_unchanged_by_names_and_numbers(server: EngineServer) -> None:
    """Sampling parameters of every kind can be encoded, as far as the middleware can tell."""
    body: Params = {
        "model": "tiny", "prompt": "hello", "max_tokens": 2, "stop": ["x"], "seed": None,
        "logit_bias": {"5": 1.5}, "logprobs": 2, "min_p": 0.1, "top_k": 5, "bad_words": ["y"],
        "stop_token_ids": [7], "user": "J\u00fcrgen \U0001f600", "vllm_xargs": {"mine": 1},
        "structured_outputs": {"choice": ["a", "b"]},
    }  # fmt: skip
    code, _, raw = server.call("POST", "/v1/completions", body, {"x-slo-ttft-ms": "60000"})
    assert code == 200, raw


def test_an_objective_of_another_system_is_served(server: EngineServer) -> None:
    header = {"x-llm-d-inference-objective": "no-such-class"}
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
    assert server.call("POST", "/v1/completions", body, header)[0] == 200


def test_wrong_options_are_refused_before_the_answer(server: EngineServer) -> None:
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    body = {"policy": "scorpio", "options": {"patience": 1}}
    code, _, raw = server.call("PUT", "/scorpio/policy", body, bearer)
    assert (code, b"patience_s" in raw) == (400, True)
    assert server.status()["policy_options"] == {}


@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_malformed_slo_is_a_bad_request_error(client: Any, kind: str) -> None:
    how = {"extra_headers": {"x-slo-tpot-ms": "fast"}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, kind, **how)
    assert caught.value.body["param"] == "x-slo-tpot-ms"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_prompts_that_do_not_fit_are_400(server: EngineServer, path: str, stream: bool) -> None:
    text = "a" * (4 * MAX_MODEL_LEN)
    body: Params = {"model": "tiny", "stream": stream, "max_tokens": 4}
    body |= (
        {"prompt": text}
        if path == "/v1/completions"
        else {"messages": [{"role": "user", "content": text}]}
    )
    code, _, raw = server.call("POST", path, body, {"x-slo-ttft-ms": "60000"})
    assert (code, json.loads(raw)["error"]["code"]) == (400, 400)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompt": [], "max_tokens": 1}, 400),
        ({"prompt": "a", "max_tokens": 0}, 400),
        ({"prompt": "a", "max_tokens": -1}, 400),
        ({"prompt": [1] * MAX_MODEL_LEN, "max_tokens": 1}, 400),
        ({"prompt": [1] * (MAX_MODEL_LEN - 1), "max_tokens": 1}, 200),
        ({"prompt": "a", "max_tokens": 1, "model": "other"}, 404),
        ({"prompt": "a", "vllm_xargs": [1]}, 400),
        (b"{", 400),
    ],
)
def test_edges_have_a_defined_answer(server: EngineServer, body: Any, code: int) -> None:
    whole = body if isinstance(body, bytes) else {"model": "tiny"} | body
    assert server.call("POST", "/v1/completions", whole, {"x-slo-ttft-ms": "60000"})[0] == code


@pytest.mark.parametrize("stream", [False, True])
def test_the_default_policy_refuses_too(server: EngineServer, stream: bool) -> None:
    server.switch("scorpio")
    body = {"model": "tiny", "prompt": "a", "max_tokens": 9, "stream": stream}
    code, headers, raw = server.call("POST", "/v1/completions", body, {"x-slo-tpot-ms": "1"})
    assert (code, headers["x-scorpio-reject-reason"]) == (429, "tpot_infeasible")
    assert (headers["x-should-retry"], json.loads(raw)["error"]["param"]) == (
        "false",
        "x-slo-tpot-ms",
    )


def test_policy_switch_and_back(server: EngineServer) -> None:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
    server.switch("fcfs")
    code, headers, _ = server.call("POST", "/v1/completions", body, HOPELESS)
    assert (code, headers["x-scorpio-policy"]) == (200, "fcfs")
    server.switch("scorpio-paper")
    assert server.call("POST", "/v1/completions", body, HOPELESS)[0] == 429


def test_admin_needs_the_token(server: EngineServer) -> None:
    code, _, raw = server.call("PUT", "/scorpio/policy", {"policy": "fcfs"})
    assert (code, b"SCORPIO_ADMIN_TOKEN" in raw) == (401, True)
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    code, _, raw = server.call("PUT", "/scorpio/policy", {"policy": "none"}, bearer)
    assert (code, b"scorpio-paper" in raw) == (400, True)


def test_metrics_hold_both_halves(server: EngineServer) -> None:
    server.call("POST", "/v1/completions", {"model": "tiny", "prompt": "a"}, HOPELESS)
    code, _, raw = server.call("GET", "/metrics")
    assert code == 200
    (line,) = (
        line
        for line in raw.splitlines()
        if line.startswith(b"scorpio_admission_rejections_total{")
        and b'reason="ttft_infeasible",slo_class="none"' in line
    )
    assert float(line.split()[-1]) > 0
    for name in (b"vllm:num_requests_waiting", b"scorpio_policy_info", b"scorpio_requests_total"):
        assert name in raw


def test_no_prompt_key_or_xarg_is_in_log_metrics_or_status(server: EngineServer) -> None:
    canary = "canary-9d3e"
    for policy in ("scorpio-paper", "scorpio"):
        server.switch(policy)
        body = {
            "model": "tiny", "prompt": canary, "max_tokens": 2, "user": canary, "stop": [canary],
            "vllm_xargs": {"mine": canary, canary: 1, "slo_tenant": canary},
        }  # fmt: skip
        headers = {"authorization": f"Bearer {canary}", "x-llm-d-inference-objective": canary}
        for more, code in ((HOPELESS, 429), ({"x-slo-ttft-ms": canary}, 400), ({}, 200)):
            assert server.call("POST", "/v1/completions", body, headers | more)[0] == code
    server.wait_for(is_idle(server), "an idle engine")
    files = [file for file in server.run_dir.iterdir() if file.is_file()]
    shown = [file.read_text() for file in [*files, server.run_dir.parent / "server.log"]]
    shown += [server.call("GET", path)[2].decode() for path in ("/metrics", "/scorpio/status")]
    assert not [text[text.index(canary) - 200 :][:400] for text in shown if canary in text]


def test_health_and_models_are_vllms(server: EngineServer) -> None:
    assert server.call("GET", "/health")[0] == 200
    models = json.loads(server.call("GET", "/v1/models")[2])
    assert [m["id"] for m in models["data"]] == ["tiny"]


def test_off_by_hand_and_on_again(server: EngineServer) -> None:
    server.switch("scorpio-paper")
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
    bearer = {"authorization": f"Bearer {server.admin_token}"}

    def told() -> tuple[int, object]:
        code = server.call("POST", "/v1/completions", body, HOPELESS)[0]
        return code, server.status().get("policy_off")

    assert told() == (429, "")
    assert server.call("PUT", "/scorpio/off", headers=bearer)[0] == 200
    server.wait_for(lambda: told() == (200, "by_hand"), "the policy is off")
    server.turn_on()
    server.wait_for(lambda: told() == (429, ""), "the policy is on")


def test_a_quote_and_the_request_that_takes_it(server: EngineServer) -> None:
    server.switch("scorpio")
    asked = {"messages": [{"role": "user", "content": "hello " * 20}], "max_tokens": 4}
    before = server.status()["quotes"]
    code, _, raw = server.call("POST", "/v1/slo/quote", asked | {"model": "tiny"})
    assert code == 200, raw
    quote = json.loads(raw)
    counted = server.call("POST", "/tokenize", {"messages": asked["messages"], "model": "tiny"})[2]
    assert quote["prompt_tokens"] == json.loads(counted)["count"]
    assert 0 <= quote["ttft_ms"]["low"] < quote["ttft_ms"]["high"]
    body = asked | {"model": "tiny"}
    assert server.call("POST", "/v1/chat/completions", body, quote["headers"])[0] == 200
    after = server.status()["quotes"]
    assert after["given"] == before["given"] + 1
    assert after["kept"] + after["broken"] == before["kept"] + before["broken"] + 1
