"""Clients that leave the real server, before or within their answer: is all given back?"""

from __future__ import annotations

import http.client
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer
from tests.server.idle import ended, is_idle

pytestmark = ENGINE_MARKS
Params = dict[str, Any]
HOPELESS = {"x-slo-ttft-ms": "1"}


def _open_stream(server: EngineServer, body: Params) -> http.client.HTTPConnection:
    host = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.request("POST", "/v1/completions", json.dumps(body), dict(server.headers))
    return connection


LONG: Params = {"model": "tiny", "prompt": "a", "max_tokens": 400, "ignore_eos": True}


def test_client_that_leaves_mid_stream_frees_the_engine(server: EngineServer) -> None:
    server.wait_for(is_idle(server), "an idle engine")
    aborted = ended(server, "aborted")
    for _ in range(10):  # on a busy machine the answer may be complete before the server looks
        connection = _open_stream(server, LONG | {"stream": True})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"data: ")
        answer.close()
        connection.close()
        server.wait_for(is_idle(server), "an idle engine")
        if ended(server, "aborted") > aborted:
            break
    assert ended(server, "aborted") == aborted + 1


def test_clients_that_leave_before_their_first_token_free_the_engine(server: EngineServer) -> None:
    """More than fit into the batch, so some are cut off while they wait."""
    server.wait_for(is_idle(server), "an idle engine")
    before = ended(server, "aborted") + ended(server, "finished")
    crowd = [_open_stream(server, LONG | {"stream": bool(i % 2)}) for i in range(24)]

    def all_there() -> bool:
        status = server.status()
        gone = ended(server, "aborted") + ended(server, "finished") - before
        return int(status["running"]) + int(status["waiting"]) + gone >= 24

    server.wait_for(all_there, "24 requests in the engine")
    for connection in crowd:
        connection.close()

    def all_gone() -> bool:
        finished = ended(server, "finished")
        idle = is_idle(server)()  # finishes one request of its own
        return idle and ended(server, "aborted") + finished >= before + 24

    server.wait_for(all_gone, "24 requests to end")
    assert server.status()["fallbacks"] == 0


@pytest.mark.parametrize("policy", ["scorpio-paper", "scorpio"])
def test_clients_that_leave_at_any_time_disturb_no_other(server: EngineServer, policy: str) -> None:
    """Queued, held back, in a chunk, in a step in flight, decoding, preempted, refused: 40 clients
    leave after 0 to 12 events while others, whose greedy answer is known, stay to the end."""
    greedy: Params = {"model": "tiny", "prompt": "stay " * 20, "max_tokens": 40, "temperature": 0}
    wanted = json.loads(server.call("POST", "/v1/completions", greedy)[2])["choices"][0]["text"]
    server.switch(policy)
    rng = random.Random(3)

    def leave(index: int) -> None:
        body = LONG | {"prompt": f"{index} " * rng.randint(1, 150), "max_tokens": 150}
        slo = {"slo_ttft_ms": rng.choice([1, 50, 60_000]), "slo_tpot_ms": rng.choice([100, 400])}
        connection = _open_stream(server, body | {"stream": True, "vllm_xargs": slo})
        try:
            if events := max(rng.randint(-6, 12), 0):
                answer = connection.getresponse()
                for _ in range(events):
                    answer.readline()
        finally:
            connection.close()

    def stay(_index: int) -> str:
        body = greedy | {"vllm_xargs": {"slo_tpot_ms": 300, "slo_on_miss": "wait"}}
        code, _, raw = server.call("POST", "/v1/completions", body)
        assert code == 200, raw
        return str(json.loads(raw)["choices"][0]["text"])

    with ThreadPoolExecutor(14) as pool:
        stayed = [pool.submit(stay, i) for i in range(4)]
        for left in [pool.submit(leave, i) for i in range(40)]:
            left.result()
        assert [job.result() for job in stayed] == [wanted] * 4
    server.wait_for(is_idle(server), "an idle engine")
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
