"""Is a request answered when its replica is not there any more?"""

from __future__ import annotations

import asyncio
import json

import pytest

from scorpio.fleet.members import State
from scorpio.fleet.registry import Address
from tests.fleet.replicas import (
    FakeReplica,
    Handler,
    answers,
    fleet_of,
    hangs_up,
    says,
    says_nothing,
    streams,
)

pytestmark = pytest.mark.asyncio


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


async def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    async with fleet_of(FakeReplica("a", streams(3, "breaks")), FakeReplica("b")) as fleet:
        fleet.front.members.by_name["b"].state = State.QUIET
        fleet.front.members.view.alive[1] = False
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
        fleet.listed["b"] = Address(b.url)
        await fleet.until(lambda: len(fleet.front.members) == 2)
        by = [(await fleet.post())[2]["by"] for _ in range(6)]
    assert by.count("b") in (3, 4)  # not all six because it had none before
    assert len(fleet.front.members.view) == 2  # in the place of the one that left


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
