"""Does a replica that joins later do what the others were told?"""

from __future__ import annotations

import json

from scorpio.fleet.exchange import Outgoing
from scorpio.fleet.standing import StandingActs
from tests.fleet.replicas import FakeReplica, Fleet, fleet_of, says

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


async def act(fleet: Fleet, method: str, path: str, body: object = None) -> int:
    headers = {"authorization": "Bearer admin"}
    async with fleet.session.request(method, fleet.url + path, json=body, headers=headers) as said:
        return said.status


async def test_it_is_told_before_it_takes_requests() -> None:
    a, late = FakeReplica("a"), FakeReplica("late", mute=True)
    async with fleet_of(a, late, router="round-robin") as fleet:
        for policy in ("fcfs", "edf"):
            assert await act(fleet, "PUT", "/scorpio/policy", {"policy": policy}) == 200
        assert await act(fleet, "PUT", "/scorpio/off") == 200
        assert await act(fleet, "DELETE", "/scorpio/off") == 200
        for name in ("sql", "law"):
            assert await act(fleet, "POST", LOAD, {"lora_name": name, "lora_path": "/x"}) == 200
        assert await act(fleet, "POST", UNLOAD, {"lora_name": "sql"}) == 200
        assert await act(fleet, "POST", "/pause") == 200  # of a moment: it is not told later
        late.seen.clear()
        late.mute = False
        await fleet.until(lambda: len(fleet.front.members) == 2)
        for _ in range(4):
            await fleet.post()
    told = [(method, path) for method, path, _, _ in late.seen]
    assert told[:3] == [("PUT", "/scorpio/policy"), ("DELETE", "/scorpio/off"), ("POST", LOAD)]
    assert {path for _, path in told[3:]} == {"/v1/completions"}
    assert json.loads(late.seen[0][3]) == {"policy": "edf"}
    assert json.loads(late.seen[2][3])["lora_name"] == "law"
    assert late.seen[0][2]["authorization"] == "Bearer admin"


async def test_what_the_others_refused_it_is_not_told() -> None:
    a, late = FakeReplica("a", says(401)), FakeReplica("late", mute=True)
    async with fleet_of(a, late) as fleet:
        assert await act(fleet, "PUT", "/scorpio/policy", {"policy": "edf"}) == 401
        late.mute = False
        await fleet.until(lambda: len(fleet.front.members) == 2)
    assert late.paths() == []


async def test_one_that_does_not_take_it_joins_and_the_log_says_so(caplog: object) -> None:
    a, late = FakeReplica("a"), FakeReplica("late", says(500), mute=True)
    async with fleet_of(a, late) as fleet:
        assert await act(fleet, "PUT", "/scorpio/off") == 200
        late.mute = False
        await fleet.until(lambda: len(fleet.front.members) == 2)
    assert late.paths() == ["/scorpio/off"]
    assert "replica late: /scorpio/off: 500" in caplog.text  # type: ignore[attr-defined]


def test_a_body_that_is_no_adapter_is_kept_once() -> None:
    acts = StandingActs()
    for body in (b"", b"[]", b"{}", b"{"):
        acts.done(LOAD, Outgoing({"headers": []}, body))
    assert len(list(acts)) == 1
