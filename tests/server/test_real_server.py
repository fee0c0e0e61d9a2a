"""Does it hold on the real vLLM server, with the client everybody uses?"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.engine_server import ENGINE_MARKS, MAX_MODEL_LEN, EngineServer

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


@pytest.fixture
def server(engine_server: EngineServer) -> EngineServer:
    if engine_server.status()["policy"] != "scorpio-paper":
        engine_server.switch("scorpio-paper")
    return engine_server


@pytest.fixture
def client(server: EngineServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def idle(server: EngineServer) -> Callable[[], bool]:
    """True once the engine has let everything go. Idle engines publish no status, so each look
    sends a small request first."""

    def look() -> bool:
        body = {"model": server.model, "prompt": "a", "max_tokens": 1}
        server.call("POST", "/v1/completions", body)
        status = server.status()
        return (status["running"], status["waiting"]) == (0, 0)

    return look


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
    "how",
    [
        {"extra_headers": {"x-llm-d-slo-ttft-ms": "1"}},
        {"extra_headers": {"x-slo-ttft-ms": "1"}},
        {"extra_headers": {"x-llm-d-inference-objective": "hopeless"}},
        {"extra_body": {"vllm_xargs": {"slo_ttft_ms": 1}}},
        {"extra_body": {"vllm_xargs": {"slo_class": "hopeless"}}},
    ],
    ids=["llm-d-header", "alias", "objective", "xargs", "class"],
)
def test_refusal_is_a_rate_limit_error(client: Any, how: Params, kind: str, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, kind, stream=stream, **how)
    headers = caught.value.response.headers
    assert headers["x-scorpio-reject-reason"] == "ttft_infeasible"
    assert int(headers["x-scorpio-attainable-ttft-ms"]) >= 20
    # not even an idle engine has a first token within 1 ms
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    assert caught.value.body["param"] == "slo_ttft_ms"
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
        {"n": 2},
        {"prompt": ["a", "b"]},
        {"vllm_xargs": {"slo_on_miss": "wait"}},
        {"vllm_xargs": {"slo_class": "batch"}},
    ],
)
def test_who_cannot_be_refused_is_served(server: EngineServer, extra: Params) -> None:
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2} | extra
    code, _, raw = server.call("POST", "/v1/completions", body, HOPELESS)
    assert code == 200, raw
    choices = json.loads(raw)["choices"]
    assert {c["finish_reason"] for c in choices} <= {"length", "stop"}


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


def _open_stream(server: EngineServer, body: Params) -> http.client.HTTPConnection:
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.request("POST", "/v1/completions", json.dumps(body), dict(server.headers))
    return connection


LONG: Params = {"model": "tiny", "prompt": "a", "max_tokens": 400, "ignore_eos": True}


def test_client_that_leaves_mid_stream_frees_the_engine(server: EngineServer) -> None:
    aborted = server.status()["finished_by_state"].get("aborted", 0)
    connection = _open_stream(server, LONG | {"stream": True})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")
    answer.close()
    connection.close()
    server.wait_for(idle(server), "an idle engine")
    assert server.status()["finished_by_state"]["aborted"] == aborted + 1


def test_clients_that_leave_before_their_first_token_free_the_engine(server: EngineServer) -> None:
    """More than fit into the batch, so some are cut off while they wait."""
    crowd = [_open_stream(server, LONG | {"stream": bool(i % 2)}) for i in range(16)]
    server.wait_for(lambda: server.status()["waiting"] > 0, "a queue")
    for connection in crowd:
        connection.close()
    server.wait_for(idle(server), "an idle engine")
    assert server.status()["fallbacks"] == 0


def test_refusals_under_load_leave_others_alone(server: EngineServer) -> None:
    stream = _open_stream(server, LONG | {"stream": True, "max_tokens": 60})
    answer = stream.getresponse()
    for _ in range(5):
        body = {"model": "tiny", "prompt": "b", "max_tokens": 2}
        assert server.call("POST", "/v1/completions", body, HOPELESS)[0] == 429
    events = [line for line in answer.read().split(b"\n\n") if line]
    assert events[-1] == b"data: [DONE]"
    assert json.loads(events[-2][6:])["choices"][0]["finish_reason"] == "length"
    stream.close()


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
    server.wait_for(
        lambda: b'reason="ttft_infeasible"} 0.0' not in server.call("GET", "/metrics")[2],
        "a counted refusal",
    )
    code, _, raw = server.call("GET", "/metrics")
    assert code == 200
    for name in (b"vllm:num_requests_waiting", b"scorpio_policy_info", b"scorpio_requests_total"):
        assert name in raw


def test_health_and_models_are_vllms(server: EngineServer) -> None:
    assert server.call("GET", "/health")[0] == 200
    models = json.loads(server.call("GET", "/v1/models")[2])
    assert [m["id"] for m in models["data"]] == ["tiny"]
