"""Is every request answered, by one replica, whatever the others do?"""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from scorpio.server.request.endpoints import ENDPOINTS
from tests.fleet.replicas import (
    FakeReplica,
    answers,
    fleet_of,
    refuses,
    says,
    streams,
)

pytestmark = pytest.mark.asyncio


async def test_what_a_replica_answers_is_passed_on_as_it_is() -> None:
    async with fleet_of(FakeReplica("a")) as fleet:
        status, headers, body = await fleet.post(
            "/v1/completions?q=a%20b", {"prompt": "é", "n": 1}, x_mine="yes"
        )
        assert (status, body) == (200, {"by": "a"})
        assert headers["x-scorpio-replica"] == "a"
        ((method, path, sent, raw),) = fleet.replicas[0].seen
        assert (method, path) == ("POST", "/v1/completions?q=a%20b")
        assert json.loads(raw) == {"prompt": "é", "n": 1}
        assert sent["x-mine"] == "yes"
        assert sent["content-type"] == "application/json"


async def test_requests_are_shared_out() -> None:
    async with fleet_of(FakeReplica("a"), FakeReplica("b"), router="round-robin") as fleet:
        by = [(await fleet.post())[2]["by"] for _ in range(6)]
    assert by.count("a") == by.count("b") == 3


async def test_a_refusal_is_tried_once_more_with_the_time_that_is_left() -> None:
    a, b = FakeReplica("a", refuses("ttft_infeasible", 700)), FakeReplica("b")
    async with fleet_of(a, b, router="round-robin") as fleet:
        for _ in range(2):
            status, _, body = await fleet.post(x_slo_ttft_ms="900", x_slo_tpot_ms="50")
            assert (status, body["by"]) == (200, "b")
    assert len(a.seen) == len(b.seen) == 2
    for _, _, again, _ in b.seen:
        assert 0.0 < float(again["x-llm-d-slo-ttft-ms"]) < 900.0
        assert again["x-slo-tpot-ms"] == "50"


async def test_when_two_refuse_the_shorter_wait_is_told() -> None:
    both = [
        FakeReplica("a", refuses("ttft_infeasible", 7000)),
        FakeReplica("b", refuses("queue_full", 500)),
        FakeReplica("c", refuses("ttft_infeasible", 9000)),
    ]
    async with fleet_of(*both, router="round-robin") as fleet:
        status, headers, body = await fleet.post()
    assert sum(len(replica.seen) for replica in both) == 2
    assert status == 429
    assert headers["retry-after-ms"] == "500"
    assert headers["x-scorpio-reject-reason"] == "queue_full"
    assert body == {"error": {"by": "b"}}


@pytest.mark.parametrize("reason", ["over_quota", "over_rate", "kv_infeasible"])
async def test_a_refusal_that_others_would_repeat_is_told_at_once(reason: str) -> None:
    a, b = FakeReplica("a", refuses(reason, 100)), FakeReplica("b", refuses(reason, 100))
    async with fleet_of(a, b) as fleet:
        assert (await fleet.post())[0] == 429
    assert len(a.seen) + len(b.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
async def test_a_mistake_of_the_client_is_not_tried_again(status: int) -> None:
    a, b = FakeReplica("a", says(status)), FakeReplica("b", says(status))
    async with fleet_of(a, b) as fleet:
        assert (await fleet.post())[0] == status
    assert len(a.seen) + len(b.seen) == 1


async def test_a_stream_is_passed_on_event_by_event() -> None:
    async with fleet_of(FakeReplica("a", streams(5, every_s=0.1))) as fleet:
        asked = {"prompt": "x", "stream": True}
        came: list[float] = []
        loop = asyncio.get_running_loop()
        async with fleet.session.post(fleet.url + "/v1/completions", json=asked) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            async for line in answer.content:
                if line.startswith(b'data: {"n"'):
                    came.append(loop.time())
                rest = line
            assert (rest, answer.content.at_eof()) == (b"\n", True)
    assert len(came) == 5
    assert came[-1] - came[0] > 0.25  # not all at once, at the end


async def test_no_replica_is_a_503_that_says_when_to_come_back() -> None:
    async with fleet_of() as fleet:
        status, headers, body = await fleet.post()
        assert status == 503
        assert headers["retry-after"] == "2"
        assert body["error"]["message"] == "no replica can take this request now"
        assert (await fleet.post("/v1/messages", {"messages": []}))[2]["type"] == "error"
        for path in ("/health", "/scorpio/health", "/ping"):
            assert await fleet.get(path) == (503, {"replicas": 0})


async def test_health_is_that_of_any() -> None:
    async with fleet_of(FakeReplica("a"), FakeReplica("b", state="stalled")) as fleet:
        assert await fleet.get("/scorpio/health") == (200, {"replicas": 1})


async def test_acts_reach_every_replica_and_the_worst_answer_is_told() -> None:
    a, b = FakeReplica("a"), FakeReplica("b")
    async with fleet_of(a, b) as fleet:
        url = fleet.url + "/scorpio/policy"
        async with fleet.session.put(url, json={"policy": "edf"}) as answer:
            assert answer.status == 200
            assert (await answer.json())["replicas"] == {"a": 200, "b": 200}
        assert a.paths() == b.paths() == ["/scorpio/policy"]
        b.handler = says(401, **{"www-authenticate": "Bearer"})
        async with fleet.session.put(url, json={"policy": "edf"}) as answer:
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert await answer.json() == {
                "error": {"by": "b"},
                "replicas": {"a": 200, "b": 401},
            }


async def test_the_slo_file_is_read_again_by_every_replica_and_by_the_front(
    tmp_path: Path,
) -> None:
    file, a, b = tmp_path / "slo.toml", FakeReplica("a"), FakeReplica("b")
    file.write_text("[classes.old]\nttft_ms = 500\n")
    asked = ((b"x-llm-d-inference-objective", b"new"), (b"content-type", b"application/json"))
    async with fleet_of(a, b, slo_config=file) as fleet:

        async def put() -> int:
            async with fleet.session.put(fleet.url + "/scorpio/config") as answer:
                return answer.status

        def seen() -> float:
            endpoint = ENDPOINTS["/v1/completions"]
            scope = {"type": "http", "path": "/v1/completions", "headers": asked}
            read = fleet.front._reader.read(b"{}", scope, endpoint, 0.0)
            return read.slo.ttft_s

        file.write_text("[classes.new]\nttft_ms = 700\n")
        b.handler = says(400)
        assert (await put(), seen()) == (400, math.inf)  # one cannot: none does
        b.handler = answers
        assert (await put(), seen()) == (200, 0.7)
        tried = "/scorpio/config?dry_run=true"
        assert a.paths() == b.paths() == [tried, tried, "/scorpio/config"]
        file.write_text("broken")  # on this node alone
        assert (await put(), seen()) == (400, 0.7)
        assert a.paths()[3:] == [tried]


async def test_what_one_cannot_try_is_taken_by_none(tmp_path: Path) -> None:
    """In a rolling upgrade: to a replica of before, a trial is a reload."""
    file, new, old = tmp_path / "slo.toml", FakeReplica("new"), FakeReplica("old", old=True)
    file.write_text("[classes.a]\nttft_ms = 500\n")
    async with fleet_of(new, old, slo_config=file) as fleet:
        for query in ("", "?dry_run=true"):
            async with fleet.session.put(fleet.url + "/scorpio/config" + query) as answer:
                said = (await answer.json())["error"]["message"]
                assert (answer.status, "cannot try an SLO file: old;" in said) == (409, True)
        assert new.paths() == old.paths() == []
        old.old = False  # it is upgraded
        await fleet.until(lambda: fleet.front.members.by_name["old"].tries)
        async with fleet.session.put(fleet.url + "/scorpio/config") as answer:
            assert answer.status == 200


async def test_other_routes_are_any_replicas() -> None:
    a, b = FakeReplica("a"), FakeReplica("b")
    async with fleet_of(a, b) as fleet:
        assert (await fleet.get("/v1/models"))[0] == 200
        assert (await fleet.post("/tokenize", {"prompt": "x"}))[0] == 200
    assert sorted(a.paths() + b.paths()) == ["/tokenize", "/v1/models"]


async def test_status_is_of_all_and_of_each() -> None:
    async with fleet_of(FakeReplica("a"), FakeReplica("b")) as fleet:
        _, told = await fleet.get("/scorpio/status")
    assert told["running"] == 4
    assert told["policies"] == ["a", "b"]
    assert told["router"] == "promises"
    assert set(told["replicas"]) == {"a", "b"}
    assert told["replicas"]["a"]["state"] == "ok"
    assert told["replicas"]["a"]["status"]["running"] == 2


async def test_metrics_are_of_each_replica_and_the_front() -> None:
    async with fleet_of(FakeReplica("a"), FakeReplica("b")) as fleet:
        await fleet.post()
        _, text = await fleet.get("/metrics")
    lines = text.splitlines()
    assert lines.count("# HELP x Text.") == 1
    assert 'x{replica="a",a="1"} 2.0' in lines
    assert 'y{replica="b"} 3.0' in lines
    assert 'scorpio_fleet_replicas{state="ok"} 2.0' in lines
    sent = [line for line in lines if line.startswith("scorpio_fleet_requests_total")]
    assert len(sent) == 1
    assert sent[0].endswith(" 1.0")


async def test_bounds_of_bodies_are_the_replicas() -> None:
    async with fleet_of(FakeReplica("a")) as fleet:
        large = fleet.front._in_flight.caps.body_bytes + 1
        async with fleet.session.post(
            fleet.url + "/v1/completions", data=b"x", headers={"content-length": str(large)}
        ) as answer:
            assert answer.status == 413
    assert not fleet.replicas[0].seen


async def test_a_large_answer_is_not_held_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorpio.fleet.exchange.MOST_HELD", 1000)
    text = "x" * 300_000

    async def long_answer(_: FakeReplica, __: object) -> object:
        from aiohttp import web

        return web.json_response({"text": text})

    async with fleet_of(FakeReplica("a", long_answer)) as fleet:  # type: ignore[arg-type]
        status, _, body = await fleet.post()
    assert (status, body) == (200, {"text": text})
