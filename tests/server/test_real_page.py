"""Does the page of the real server show what the real server has just done?"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer

pytestmark = ENGINE_MARKS
CANARY = "canary-7a40"


def content(server: EngineServer) -> dict[str, Any]:
    bearer = {"authorization": f"Bearer {server.admin_token}"}
    code, _, raw = server.call("GET", "/scorpio/page.json", headers=bearer)
    assert code == 200, raw
    return dict(json.loads(raw))


def ended(server: EngineServer) -> tuple[int, int]:
    """Good ones of a class, and refusals of another."""
    found = content(server)
    good = found["classes"]["interactive"]["windows"]["all"]["good"]
    return good, found["refusals"].get("ttft_infeasible", {}).get("all", 0)


def more(server: EngineServer, before: tuple[int, int]) -> Callable[[], bool]:
    def look() -> bool:
        return ended(server) >= (before[0] + 2, before[1] + 1)

    return look


def test_it_shows_what_was_just_served_and_refused(engine_server: EngineServer) -> None:
    before = ended(engine_server)
    body = {"model": engine_server.model, "prompt": CANARY, "max_tokens": 3, "user": CANARY}
    for name, code in (("interactive", 200), ("interactive", 200), ("hopeless", 429)):
        headers = {"x-llm-d-inference-objective": name}
        assert engine_server.call("POST", "/v1/completions", body, headers)[0] == code
    engine_server.wait_for(more(engine_server, before), "the page's next sample")
    found = content(engine_server)
    assert found["server"]["state"] == "ok"
    assert found["now"]["kv_tokens"] > 0
    assert found["engines"][0]["state"] in ("idle", "working")
    assert found["classes"]["interactive"]["asks"] == "TTFT 60,000 ms, TPOT 60,000 ms; reject"
    last = {one["slo_class"]: one for one in found["recent"]["decisions"][:3]}
    assert last["hopeless"]["reason"] == "ttft_infeasible"
    assert last["interactive"]["outcome"] == "finished"
    assert CANARY not in json.dumps(found)


@pytest.mark.parametrize("path", ["/scorpio/page.json", "/scorpio/events"])
def test_it_wants_the_token(engine_server: EngineServer, path: str) -> None:
    assert engine_server.call("GET", path)[0] == 401
    for shell in ("/scorpio/", "/scorpio/page.css", "/scorpio/page.js"):
        assert engine_server.call("GET", shell)[0] == 200


def test_its_stream_goes_on(engine_server: EngineServer) -> None:
    request = urllib.request.Request(
        f"{engine_server.url}/scorpio/events",
        headers={"authorization": f"Bearer {engine_server.admin_token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        events: list[dict[str, Any]] = []
        while len(events) < 2:  # each line comes within the time-out, or the test ends
            line = answer.readline().decode()
            events += [json.loads(line[6:])] if line.startswith("data: ") else []
    assert events[0]["at_unix_s"] < events[1]["at_unix_s"]
