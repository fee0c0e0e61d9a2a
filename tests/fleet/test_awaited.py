"""Does a request come to the replica that promised it a place?"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from aiohttp import web

from scorpio.fleet import awaited
from scorpio.fleet.awaited import Awaited
from scorpio.fleet.exchange import NotAnswered, Outgoing
from tests.fleet.replicas import FakeReplica, Fleet, answers, fleet_of, refuses, says

QUOTE = "/v1/slo/quote"


async def quotes(replica: FakeReplica, request: web.Request) -> web.StreamResponse:
    """A quote of its own; anything else is answered."""
    if request.path != QUOTE:
        return await answers(replica, request)
    return web.json_response({"headers": {"x-scorpio-quote": f"1-2-{replica.name}"}})


def three(handler: object = quotes) -> list[FakeReplica]:
    return [FakeReplica(name, handler) for name in "abc"]  # type: ignore[arg-type]


async def quoted(fleet: Fleet) -> tuple[str, str]:
    """A quote's replica and its token."""
    status, headers, told = await fleet.post(QUOTE, {"prompt_tokens": 800})
    assert status == 200
    return headers["x-scorpio-replica"], told["headers"]["x-scorpio-quote"]


async def test_a_quote_is_taken_where_it_was_given_whatever_the_router_thinks() -> None:
    async with fleet_of(*three(), router="round-robin") as fleet:
        for _ in range(4):
            name, token = await quoted(fleet)
            assert token == f"1-2-{name}"
            for _ in range(2):  # others come in between
                await fleet.post()
            assert (await fleet.post(x_scorpio_quote=token))[2] == {"by": name}
    taken = [sent for replica in fleet.replicas for _, _, sent, _ in replica.seen]
    assert sum("x-scorpio-quote" in sent for sent in taken) == 4


@pytest.mark.parametrize("router", ["promises", "least-work", "round-robin"])
async def test_quotes_are_not_all_of_one_replica(router: str) -> None:
    async with fleet_of(*three(), router=router) as fleet:
        by = [(await quoted(fleet))[0] for _ in range(30)]
    assert min(map(by.count, "abc")) >= 5


async def test_one_that_took_a_quote_in_vain_comes_back_where_it_is_told() -> None:
    replicas = three()
    async with fleet_of(*replicas, router="round-robin") as fleet:
        _, token = await quoted(fleet)
        for replica in replicas:
            replica.handler = refuses("ttft_infeasible", 100 if replica.name == "b" else 900)
        told = ""
        while told != "b":
            told = (await fleet.post(x_scorpio_quote=token))[2]["error"]["by"]
        for replica in replicas:
            replica.handler = answers
        await fleet.post(body={"prompt": "another's"})
        assert (await fleet.post(x_scorpio_quote=token))[2] == {"by": "b"}


def test_requests_that_are_alike_come_back_one_by_one_and_to_no_other_key() -> None:
    kept = Awaited(Clock())
    mine, other = ((b"authorization", b"Bearer " + name) for name in (b"mine", b"other"))
    for member in "ab":
        kept.refused(outgoing(b"body", mine), refusal(b"1000", member))
    assert kept.at(outgoing(b"body", other)) == kept.at(outgoing(b"body")) == ""
    assert [kept.at(outgoing(b"body", mine)) for _ in range(3)] == ["a", "b", ""]


async def test_a_quote_is_taken_once() -> None:
    async with fleet_of(*three(), router="round-robin") as fleet:
        name, token = await quoted(fleet)
        by = [(await fleet.post(x_scorpio_quote=token))[2]["by"] for _ in range(4)]
    assert by[0] == name
    assert len(set(by[1:])) > 1  # in turn again


async def test_without_its_replica_a_quoted_request_is_an_ordinary_one() -> None:
    async with fleet_of(*three(), router="round-robin") as fleet:
        name, token = await quoted(fleet)
        lost = next(replica for replica in fleet.replicas if replica.name == name)
        lost.state = "stalled"
        await fleet.until(lambda: len(fleet.front.members) == 2)
        status, _, told = await fleet.post(x_scorpio_quote=token)
    assert (status, told["by"] != name) == (200, True)


@pytest.mark.parametrize("status", [400, 409])
async def test_what_is_no_quote_is_passed_on(status: int) -> None:
    async with fleet_of(*three(says(status))) as fleet:
        assert (await fleet.post(QUOTE, {"prompt_tokens": -1}))[0] == status
        assert sum(len(replica.seen) for replica in fleet.replicas) == 1


async def test_without_a_seat_another_replica_is_asked() -> None:
    a, b = FakeReplica("a", says(503)), FakeReplica("b", quotes)
    async with fleet_of(a, b, router="round-robin") as fleet:
        assert (await quoted(fleet))[0] == "b"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"prompt_tokens": "x"}', b'{"slo_tpot_ms": -1}', b'{"prompt": [[[]]]}'],
)
async def test_a_malformed_question_is_the_replicas_to_answer(body: bytes) -> None:
    async with (
        fleet_of(FakeReplica("a", says(400))) as fleet,
        fleet.session.post(fleet.url + QUOTE, data=body) as answer,
    ):
        assert answer.status == 400
        assert fleet.replicas[0].seen[0][3] == body


async def test_a_refused_request_comes_back_to_the_replica_that_told_it_when() -> None:
    waits = {"a": 900, "b": 100, "c": 900}
    replicas = [FakeReplica(name, refuses("ttft_infeasible", ms)) for name, ms in waits.items()]
    async with fleet_of(*replicas, router="round-robin") as fleet:
        while (told := await fleet.post(body={"prompt": "mine"}))[2]["error"]["by"] != "b":
            pass  # until b is among the two that are asked
        assert told[1]["retry-after-ms"] == "100"
        for replica in replicas:
            replica.handler = answers
        await fleet.post(body={"prompt": "another's"})
        assert (await fleet.post(body={"prompt": "mine"}))[2] == {"by": "b"}


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def outgoing(body: bytes, *headers: tuple[bytes, bytes]) -> Outgoing:
    return Outgoing({"headers": list(headers)}, body)


def refusal(retry_after_ms: bytes | None, member: str = "a") -> NotAnswered:
    headers = [] if retry_after_ms is None else [(b"retry-after-ms", retry_after_ms)]
    return NotAnswered(member, "refused", 429, headers)


@pytest.mark.parametrize(
    ("told_ms", "last_s"), [(b"10000", 14.5), (b"0", 2.0), (None, 2.0), (b"soon", 2.0)]
)
def test_as_long_as_the_replica_keeps_it(told_ms: bytes | None, last_s: float) -> None:
    for now_s, name in ((last_s, "a"), (last_s + 0.01, "")):
        clock = Clock()
        kept = Awaited(clock)
        kept.refused(outgoing(b"body"), refusal(told_ms))
        clock.now_s = now_s
        assert kept.at(outgoing(b"other")) == ""
        assert kept.at(outgoing(b"body")) == name
        assert kept.at(outgoing(b"body")) == ""


def test_it_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "MOST", 3)
    kept = Awaited(Clock())
    for number in range(5):
        kept.refused(outgoing(b"%d" % number), refusal(b"1000"))
    assert [kept.at(outgoing(b"%d" % number)) for number in range(5)] == ["", "", "a", "a", "a"]


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"headers": 1}', b'{"headers": {}}'])
def test_an_answer_without_a_quote_is_none(answer: bytes) -> None:
    kept = Awaited(Clock())
    kept.quoted(answer, "a")
    assert kept.at(outgoing(b"", (b"x-scorpio-quote", b""))) == ""


def test_a_token_is_not_made_by_a_client() -> None:
    kept = Awaited(Clock())
    kept.quoted(json.dumps({"headers": {"x-scorpio-quote": "1-2-3"}}).encode(), "a")
    assert kept.at(outgoing(b"", (b"x-scorpio-quote", b"1-2-4"))) == ""
    assert kept.at(outgoing(b"", (b"x-scorpio-quote", b"1-2-3"))) == "a"
