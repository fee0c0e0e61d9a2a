"""Does a fleet of real engines answer as one server does?"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engine_server import EngineServer
from tests.fleet.live import FLEET_MARKS, TEXT, LiveFleet
from tests.server.test_real_ledger import explained

pytestmark = FLEET_MARKS
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
HOPELESS = {"x-slo-ttft-ms": "1"}
CASES: dict[str, tuple[str, str, object, Mapping[str, str]]] = {
    "completion": ("POST", "/v1/completions", TEXT, {}),
    "in a class": ("POST", "/v1/completions", TEXT, {"x-llm-d-inference-objective": "batch"}),
    "stream": ("POST", "/v1/completions", TEXT | {"stream": True}, {}),
    "chat": ("POST", "/v1/chat/completions", CHAT, {}),
    "chat stream": ("POST", "/v1/chat/completions", CHAT | {"stream": True}, {}),
    "messages": ("POST", "/v1/messages", CHAT, {}),
    "responses": (
        "POST", "/v1/responses", {"input": "hello", "max_output_tokens": 4, "temperature": 0}, {},
    ),
    "refused": ("POST", "/v1/completions", TEXT, HOPELESS),
    "refused stream": ("POST", "/v1/completions", TEXT | {"stream": True}, HOPELESS),
    "refused message": ("POST", "/v1/messages", CHAT, HOPELESS),
    "refused class": (
        "POST", "/v1/completions", TEXT | {"vllm_xargs": {"slo_class": "hopeless"}}, {},
    ),
    "malformed": ("POST", "/v1/completions", TEXT, {"x-slo-ttft-ms": "soon"}),
    "no such word": ("POST", "/v1/completions", TEXT | {"vllm_xargs": {"slo_ttft": 1}}, {}),
    "no JSON": ("POST", "/v1/completions", b"{", {}),
    "no such model": ("POST", "/v1/completions", TEXT | {"model": "other"}, {}),
    "too long": ("POST", "/v1/completions", TEXT | {"max_tokens": 10**6}, {}),
    "models": ("GET", "/v1/models", None, {}),
    "tokenize": ("POST", "/tokenize", {"prompt": "hello"}, {}),
    "version": ("GET", "/version", None, {}),
    "no such route": ("GET", "/v1/nothing", None, {}),
    "wrong method": ("GET", "/v1/completions", None, {}),
    "switch without token": ("PUT", "/scorpio/policy", {"policy": "edf"}, {}),
}  # fmt: skip
# Of one process, of one request, or the fleet's own.
CHANGING = (
    "id",
    "created",
    "created_at",
    "system_fingerprint",
    "replicas",
    "item_id",
    "request_id",
)
HEADERS = (
    *("content-type", "x-scorpio-policy", "x-scorpio-reject-reason", "x-should-retry", "allow"),
    *("x-llm-d-request-dropped-reason", "www-authenticate"),
)


@pytest.mark.parametrize("case", CASES)
def test_the_same_answer_as_of_one_server(live_fleet: LiveFleet, case: str) -> None:
    method, path, body, headers = CASES[case]
    alone = EngineServer(live_fleet.able()[0], Path(), live_fleet.server.process)
    one, all_ = (server.call(method, path, body, headers) for server in (alone, live_fleet.server))
    assert all_[0] == one[0]
    assert [all_[1].get(name) for name in HEADERS] == [one[1].get(name) for name in HEADERS]
    assert _constant(all_[2]) == _constant(one[2])


def _constant(raw: bytes) -> object:
    """An answer without what differs from request to request."""
    if raw.startswith(b"data: ") or raw.startswith(b"event: "):
        lines = [line for line in raw.decode().splitlines() if line.startswith("data: {")]
        return _said([_without(json.loads(line.removeprefix("data: "))) for line in lines])
    try:
        return _without(json.loads(raw))
    except ValueError:
        return raw


def _said(events: list[Any]) -> tuple[str, list[Any]]:
    """The text of a stream, and its events that say more than text. vLLM puts several tokens into
    one event when its API process is busy, so no cut of the text is promised."""
    texts, more = [], []
    for event in events:
        for choice in event.get("choices", []):
            held = choice.get("delta", choice)
            texts.append(held.pop("content" if "delta" in choice else "text", None) or "")
            if choice.get("finish_reason") or "role" in held:
                more.append(event)
        if not event.get("choices"):
            more.append(event)
    return "".join(texts), more


def _without(value: object) -> object:
    if isinstance(value, str):  # forecasts: engines learn their speed
        return re.sub(r"TTFT [\d.]+ s", "TTFT X s", value)
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in CHANGING}
    return [_without(entry) for entry in value] if isinstance(value, list) else value


def test_what_is_refused_is_refused_by_both(live_fleet: LiveFleet) -> None:
    before = live_fleet.metric("scorpio_fleet_not_answered_total")
    # The policy's 429 without a time to come back is final; one replica is asked, or two.
    status, headers, _ = live_fleet.server.call("POST", "/v1/completions", TEXT, HOPELESS)
    assert status == 429
    assert "x-scorpio-reject-reason" in headers
    assert live_fleet.metric("scorpio_fleet_not_answered_total") - before == 2


def test_metrics_are_of_every_replica(live_fleet: LiveFleet) -> None:
    for name in live_fleet.replicas():
        assert live_fleet.metric("vllm:num_requests_running", name) == 0
        assert live_fleet.metric("scorpio_steps_total", name) > 0


def test_a_switch_reaches_every_replica(live_fleet: LiveFleet) -> None:
    for policy in ("edf", "scorpio"):
        bearer = {"authorization": f"Bearer {live_fleet.server.admin_token}"}
        code, _, raw = live_fleet.server.call("PUT", "/scorpio/policy", {"policy": policy}, bearer)
        assert code == 200, raw
        assert set(json.loads(raw)["replicas"].values()) == {200}

        def switched(name: str = policy) -> bool:
            for url in live_fleet.able():
                EngineServer(url, Path(), live_fleet.server.process).call(
                    "POST", "/v1/completions", TEXT
                )
            return {r["status"]["policy"] for r in live_fleet.replicas().values()} == {name}

        live_fleet.server.wait_for(switched, f"policy {policy} everywhere")


def test_a_quote_is_taken_at_the_replica_that_gave_it(live_fleet: LiveFleet) -> None:
    server, before, codes = live_fleet.server, live_fleet.quotes(), set[int]()
    for _ in range(4):
        code, headers, raw = server.call("POST", "/v1/slo/quote", {"prompt": TEXT["prompt"]})
        assert code == 200, raw
        taking = json.loads(raw)["headers"]
        for _ in range(2):  # others come in between
            server.call("POST", "/v1/completions", TEXT)
        code, taken, _ = server.call("POST", "/v1/completions", TEXT, taking)
        assert taken["x-scorpio-replica"] == headers["x-scorpio-replica"]
        codes.add(code)
    assert 200 in codes
    assert codes <= {200, 429}  # tens of milliseconds, of which the way there is a part
    after = live_fleet.quotes()
    assert {name: after[name] - before[name] for name in after} == {"given": 4, "ended": 4}


def test_any_answer_can_be_explained_from_the_fleets_folder(live_fleet: LiveFleet) -> None:
    server = live_fleet.server
    served = [server.call("POST", "/v1/completions", TEXT)[1:] for _ in range(4)]
    names = {json.loads(raw)["id"]: headers["x-scorpio-replica"] for headers, raw in served}
    for request_id, replica in names.items():
        said = explained(server, request_id)
        assert said.startswith(f"{request_id}")
        assert said.splitlines()[-1] == f"Replica: {replica}."
    # Refused by both replicas, under one id: Ray's proxy has named the request.
    _, headers, _ = server.call("POST", "/v1/completions", TEXT, HOPELESS)
    request_id = headers["x-scorpio-request-id"].rpartition("-")[0]
    server.wait_for(lambda: explained(server, request_id).count("Replica: ") == 2, "both lines")
    said = explained(server, request_id)
    assert said.count(": refused after") == 2
    assert all(f"Replica: {name}." in said for name in live_fleet.replicas())


def test_the_page_is_of_all_replicas_and_live(live_fleet: LiveFleet) -> None:
    server = live_fleet.server
    assert server.call("GET", "/scorpio/page.json")[0] == 401
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    code, _, raw = server.call("GET", "/scorpio/page.json", headers=bearer)
    found = json.loads(raw)
    assert (code, found["server"]["of"]) == (200, "2 replicas, 2 take requests")
    assert {row["name"] for row in found["engines"]} == set(live_fleet.replicas())
    request = urllib.request.Request(f"{live_fleet.url}/scorpio/events", headers=bearer)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        whole = answer.read().decode()  # it ends by itself
    assert whole.count("event: status\n") > 1
