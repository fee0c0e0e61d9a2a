"""Off by hand, and a quote that is taken: do they hold on the real vLLM server?"""

from __future__ import annotations

import json

from tests.engine_server import ENGINE_MARKS, EngineServer

pytestmark = ENGINE_MARKS
HOPELESS = {"x-slo-ttft-ms": "1"}


def test_off_by_hand_and_on_again(engine_server: EngineServer) -> None:
    engine_server.switch("scorpio-paper")
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}
    bearer = {"authorization": f"Bearer {engine_server.admin_token}"}

    def told() -> tuple[int, object]:
        code = engine_server.call("POST", "/v1/completions", body, HOPELESS)[0]
        return code, engine_server.status().get("policy_off")

    assert told() == (429, "")
    assert engine_server.call("PUT", "/scorpio/off", headers=bearer)[0] == 200
    engine_server.wait_for(lambda: told() == (200, "by_hand"), "the policy is off")
    engine_server.turn_on()
    engine_server.wait_for(lambda: told() == (429, ""), "the policy is on")


def test_a_quote_and_the_request_that_takes_it(engine_server: EngineServer) -> None:
    engine_server.switch("scorpio")
    asked = {"messages": [{"role": "user", "content": "hello " * 20}], "max_tokens": 4}
    before = engine_server.status()["quotes"]
    code, _, raw = engine_server.call("POST", "/v1/slo/quote", asked | {"model": "tiny"})
    assert code == 200, raw
    quote = json.loads(raw)
    counted = engine_server.call(
        "POST", "/tokenize", {"messages": asked["messages"], "model": "tiny"}
    )[2]
    assert quote["prompt_tokens"] == json.loads(counted)["count"]
    assert 0 <= quote["ttft_ms"]["low"] < quote["ttft_ms"]["high"]
    body = asked | {"model": "tiny"}
    assert engine_server.call("POST", "/v1/chat/completions", body, quote["headers"])[0] == 200
    after = engine_server.status()["quotes"]
    assert after["given"] == before["given"] + 1
    assert after["kept"] + after["broken"] == before["kept"] + before["broken"] + 1
