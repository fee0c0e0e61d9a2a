"""Is every request answered, by one replica, whatever the others do?"""

from __future__ import annotations

import asyncio
import json

import pytest

from scorpio.fleet.members import State
from tests.fleet.replicas import (
    FakeReplica,
    Handler,
    answers,
    fleet_of,
    hangs_up,
    refuses,
    says,
    says_nothing,
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


@pytest.mark.parametrize("reason", ["over_quota", "kv_infeasible"])
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


@pytest.mark.parametrize("fault", [hangs_up, says(500), says(502), says(503), says(504)])
async def test_a_request_that_is_lost_is_answered_by_another(fault: Handler) -> None:
    a, b = FakeReplica("a", fault), FakeReplica("b")
    async with fleet_of(a, b, router="round-robin") as fleet:
        for _ in range(2):
            status, _, body = await fleet.post()
            assert (status, body["by"]) == (200, "b")
    assert len(a.seen) == 1 or fault is not hangs_up


async def test_a_request_that_ends_replicas_ends_three_at_most() -> None:
    replicas = [FakeReplica(name, hangs_up) for name in "abcde"]
    async with fleet_of(*replicas) as fleet:
        status, headers, body = await fleet.post()
    assert sum(len(replica.seen) for replica in replicas) == 3
    assert status == 503
    assert headers["x-scorpio-reject-reason"] == "no_replica"
    assert body["error"]["code"] == 503


async def test_an_error_that_all_make_is_told() -> None:
    a, b = FakeReplica("a", says(500)), FakeReplica("b", says(500))
    async with fleet_of(a, b) as fleet:
        status, _, body = await fleet.post()
    assert status == 500
    assert body["error"]["by"] in ("a", "b")


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


async def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    async with fleet_of(FakeReplica("a", streams(3, "breaks")), FakeReplica("b")) as fleet:
        fleet.front.members.by_name["b"].state = State.QUIET
        fleet.front.members._view.alive[1] = False
        status, text = await fleet.stream()
    assert status == 200
    events = text.decode().strip().split("\n\n")
    assert events[:3] == [f'data: {{"n": {n}}}' for n in range(3)]
    error = json.loads(events[3].removeprefix("data: "))["error"]
    assert error["code"] == 503
    assert "a) is gone" in error["message"]
    assert events[4] == "data: [DONE]"


async def test_a_stream_that_breaks_before_its_first_token_is_sent_elsewhere() -> None:
    a, b = FakeReplica("a", streams(0, "breaks")), FakeReplica("b", streams(2))
    async with fleet_of(a, b, router="round-robin") as fleet:
        for _ in range(2):
            status, text = await fleet.stream()
            assert status == 200
            assert text.count(b'"n"') == 2
            assert b"error" not in text


async def test_a_hung_replica_is_left_and_what_it_had_is_answered() -> None:
    a, b = FakeReplica("a", says_nothing), FakeReplica("b")
    async with fleet_of(a, b, router="round-robin", quiet_s=0.3, lost_s=1.0) as fleet:
        first = asyncio.create_task(fleet.post())
        await fleet.until(lambda: bool(a.seen or b.seen))
        a.mute = True
        second = asyncio.create_task(fleet.post())
        for status, _, body in await asyncio.wait_for(asyncio.gather(first, second), 10.0):
            assert (status, body["by"]) == (200, "b")
        assert len(fleet.front.members) == 1
        await fleet.until(lambda: a.left == 1)
        assert {(await fleet.post())[2]["by"] for _ in range(4)} == {"b"}
        a.mute, a.handler = False, answers
        await fleet.until(lambda: len(fleet.front.members) == 2)
        assert {(await fleet.post())[2]["by"] for _ in range(4)} == {"a", "b"}


async def test_a_stream_of_a_hung_replica_ends_with_an_error_event() -> None:
    a = FakeReplica("a", streams(2, "hangs"))
    async with fleet_of(a, quiet_s=0.3, lost_s=0.8) as fleet:
        work = asyncio.create_task(fleet.stream())
        await fleet.until(lambda: bool(a.seen))
        a.mute = True
        status, text = await asyncio.wait_for(work, 8.0)
    assert status == 200
    assert text.count(b'"n"') == 2
    assert b'"code": 503' in text
    assert text.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("state", ["draining", "stalled", "dead"])
async def test_a_replica_that_says_so_gets_nothing_new(state: str) -> None:
    a, b = FakeReplica("a"), FakeReplica("b")
    async with fleet_of(a, b) as fleet:
        a.state = state
        await fleet.until(lambda: len(fleet.front.members) == 1)
        assert {(await fleet.post())[2]["by"] for _ in range(4)} == {"b"}


async def test_one_that_is_taken_away_finishes_what_it_has() -> None:
    a = FakeReplica("a", streams(8, every_s=0.2))
    async with fleet_of(a, FakeReplica("b", streams(1)), router="round-robin") as fleet:
        first, second = (asyncio.create_task(fleet.stream()) for _ in range(2))
        await fleet.until(lambda: bool(a.seen))
        del fleet.listed["a"]
        await fleet.until(lambda: len(fleet.front.members) == 1)
        counts = sorted(text.count(b'"n"') for _, text in await asyncio.gather(first, second))
        assert counts == [1, 8]
        await fleet.until(lambda: "a" not in fleet.front.members.by_name)
        assert (await fleet.stream())[1].count(b'"n"') == 1


async def test_one_that_joins_gets_its_share() -> None:
    b = FakeReplica("b")
    async with fleet_of(FakeReplica("a"), b, router="round-robin") as fleet:
        del fleet.listed["b"]
        await fleet.until(lambda: "b" not in fleet.front.members.by_name)
        for _ in range(10):
            await fleet.post()
        fleet.listed["b"] = b.url
        await fleet.until(lambda: len(fleet.front.members) == 2)
        by = [(await fleet.post())[2]["by"] for _ in range(6)]
    assert by.count("b") in (3, 4)  # not all six because it had none before
    assert len(fleet.front.members._view) == 2  # in the place of the one that left


async def test_a_client_that_leaves_is_told_to_the_replica() -> None:
    a = FakeReplica("a", streams(500, every_s=0.02))
    async with fleet_of(a) as fleet:
        asked = {"prompt": "x", "stream": True}
        async with fleet.session.post(fleet.url + "/v1/completions", json=asked) as answer:
            await answer.content.readline()
        await fleet.until(lambda: a.left == 1)
        a.handler = says_nothing
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fleet.post(), 0.5)
        await fleet.until(lambda: a.left == 2)


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
        b.handler = says(401)
        async with fleet.session.put(url, json={"policy": "edf"}) as answer:
            assert answer.status == 401
            assert await answer.json() == {
                "error": {"by": "b"},
                "replicas": {"a": 200, "b": 401},
            }


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
