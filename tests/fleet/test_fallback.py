"""Does a request fall back when it may, is its client told, and does the ceiling hold?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from scorpio.fleet.settings import FleetSettings
from tests.fleet.replicas import (
    FakeReplica,
    Fleet,
    Handler,
    answers,
    fleet_of,
    hangs_up,
    refuses,
    says,
)

pytestmark = pytest.mark.asyncio
NAME = "tiny-fp8"
HEADER = "x-scorpio-fallback"
FALLBACK = {"model": NAME, "replicas": 1}
CHAT = {"x_llm_d_inference_objective": "chat"}
BUSY = refuses("ttft_infeasible", 700)
SLO = f"""
[classes.chat]
ttft_ms = 500
fallback = "{NAME}"
SHARE
[classes.agent]
ttft_ms = 500
"""


def slo(tmp_path: Path, share: str = "") -> Path:
    file = tmp_path / "slo.toml"
    file.write_text(SLO.replace("SHARE", share))
    return file


def lists(*names: str) -> Handler:
    """The models that a replica has."""

    async def handler(replica: FakeReplica, _: web.Request) -> web.StreamResponse:
        data = [{"id": name, "by": replica.name} for name in names]
        return web.json_response({"object": "list", "data": data})

    return handler


def replicas() -> tuple[FakeReplica, FakeReplica]:
    return FakeReplica("first", BUSY), FakeReplica("cheap", fallback=True)


async def told(fleet: Fleet) -> Any:
    return (await fleet.get("/scorpio/status"))[1]["fallback"]["classes"]["chat"]


async def test_what_the_first_refuses_is_served_by_the_fallback_and_said(tmp_path: Path) -> None:
    first, cheap = replicas()
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, headers, body = await fleet.post(body={"model": "tiny", "prompt": "x"}, **CHAT)
        assert (status, body, headers[HEADER]) == (200, {"by": "cheap"}, NAME)
        assert first.seen[0][3] == cheap.seen[0][3]  # byte for byte
        assert 0.0 < float(cheap.seen[0][2]["x-llm-d-slo-ttft-ms"]) <= 500.0
        assert await told(fleet) == {"came": 1, "fell_back": 1, "most_share": 1.0}
        _, state = await fleet.get("/scorpio/status")
        assert {n: r["fallback"] for n, r in state["replicas"].items()} == {
            "first": False, "cheap": True,
        }  # fmt: skip
        metrics = (await fleet.get("/metrics"))[1].splitlines()
        assert 'scorpio_fleet_fallbacks_total{slo_class="chat"} 1.0' in metrics


async def test_while_the_first_serves_nothing_falls_back(tmp_path: Path) -> None:
    first, cheap = replicas()
    first.handler = answers
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        for _ in range(5):
            _, headers, body = await fleet.post(**CHAT)
            assert (body, HEADER in headers) == ({"by": "first"}, False)
        assert not cheap.seen
        assert await told(fleet) == {"came": 5, "fell_back": 0, "most_share": 1.0}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"prompt": "x"}, {"x_llm_d_inference_objective": "agent"}),
        ({"prompt": "x"}, {}),
        ({"prompt": "x", "model": "an-adapter"}, CHAT),
    ],
)
async def test_others_are_refused_as_before(
    tmp_path: Path, body: dict[str, str], headers: dict[str, str]
) -> None:
    first, cheap = replicas()
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, told, _ = await fleet.post(body=body, **headers)
        assert (status, HEADER in told) == (429, False)
    assert not cheap.seen


async def test_no_more_than_the_ceiling_falls_back(tmp_path: Path) -> None:
    first, cheap = replicas()
    file = slo(tmp_path, "fallback_share = 0.25")
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        # Each of another body: one that comes back with the same is no new request.
        got = [(await fleet.post(body={"prompt": str(n)}, **CHAT))[0] for n in range(12)]
        assert got == [429, 429, 429, 200] * 3
        assert await told(fleet) == {"came": 12, "fell_back": 3, "most_share": 0.25}


async def test_two_refusals_are_a_429_and_count_for_nothing(tmp_path: Path) -> None:
    first, cheap = replicas()
    cheap.handler = refuses("queue_full", 300)
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, headers, _ = await fleet.post(**CHAT)
        assert (status, headers["retry-after-ms"]) == (429, "300")
        assert (len(first.seen), len(cheap.seen)) == (1, 1)
        assert await told(fleet) == {"came": 1, "fell_back": 0, "most_share": 1.0}
        assert "scorpio_fleet_fallbacks_total{" not in (await fleet.get("/metrics"))[1]


async def test_who_names_the_fallback_gets_it(tmp_path: Path) -> None:
    first, cheap = replicas()
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, headers, body = await fleet.post(body={"model": NAME, "prompt": "x"}, **CHAT)
        assert (status, body, HEADER in headers) == (200, {"by": "cheap"}, False)
        assert await told(fleet) == {"came": 0, "fell_back": 0, "most_share": 1.0}
    assert not first.seen


async def test_load_of_the_first_is_what_falls_back_and_not_who_names_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Any] = []
    follows = {"replicas": 1, "max_replicas": 4, "slo_config": slo(tmp_path)}
    async with fleet_of(*replicas(), fallback=FALLBACK, **follows) as fleet:
        monkeypatch.setattr(fleet.front._wanted, "_note", lambda *args: counted.append(args))
        assert (await fleet.post(**CHAT))[0] == 200
        assert len(counted) == 1
        assert (await fleet.post(body={"model": NAME, "prompt": "x"}, **CHAT))[0] == 200
        assert len(counted) == 1


async def test_when_the_first_is_gone_what_may_is_still_served(tmp_path: Path) -> None:
    first, cheap = replicas()
    first.handler = says(503)
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, headers, body = await fleet.post(**CHAT)
        assert (status, body, headers[HEADER]) == (200, {"by": "cheap"}, NAME)
        assert (await fleet.post(body={"prompt": "x"}, x_slo_ttft_ms="900"))[0] == 503


async def test_adapters_are_acts_on_the_first_alone_and_other_acts_on_all(tmp_path: Path) -> None:
    first, cheap = FakeReplica("first"), FakeReplica("cheap", fallback=True)
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        assert (await fleet.post("/v1/load_lora_adapter", {"lora_name": "a"}))[0] == 200
        assert (first.paths(), cheap.paths()) == (["/v1/load_lora_adapter"], [])
        assert (await fleet.post("/sleep", {}))[0] == 200
        assert (first.paths()[1:], cheap.paths()) == (["/sleep"], ["/sleep"])
        assert (await fleet.get("/v1/models"))[0] == 200
        assert first.paths()[2:] == ["/v1/models"]


async def test_a_reload_changes_who_may(tmp_path: Path) -> None:
    first, cheap = replicas()
    file = slo(tmp_path)
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        file.write_text("[classes.chat]\nttft_ms = 500\n")
        first.handler = answers
        async with fleet.session.put(fleet.url + "/scorpio/config") as answer:
            assert answer.status == 200
        first.handler = BUSY
        assert (await fleet.post(**CHAT))[0] == 429
        assert (await fleet.get("/scorpio/status"))[1]["fallback"]["classes"] == {}


async def test_a_reload_that_names_no_deployment_is_taken_by_none(tmp_path: Path) -> None:
    first, cheap = replicas()
    file = slo(tmp_path)
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        first.handler = answers
        file.write_text('[classes.chat]\nttft_ms = 500\nfallback = "another"\n')
        async with fleet.session.put(fleet.url + "/scorpio/config") as answer:
            said = (await answer.json())["error"]["message"]
            assert (answer.status, "'another'" in said, NAME in said) == (400, True, True)
        tried = ["/scorpio/config?dry_run=true"]
        assert (first.paths(), cheap.paths()) == (tried, tried)
        assert list((await fleet.get("/scorpio/status"))[1]["fallback"]["classes"]) == ["chat"]


async def test_a_reload_that_one_replica_cannot_take_is_taken_by_none(tmp_path: Path) -> None:
    first, cheap = FakeReplica("first"), FakeReplica("cheap", says(400), fallback=True)
    file = slo(tmp_path)
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        async with fleet.session.put(fleet.url + "/scorpio/config") as answer:
            assert answer.status == 400
            assert (await answer.json())["replicas"] == {"first": 200, "cheap": 400}
        assert first.paths() == ["/scorpio/config?dry_run=true"]


async def test_what_another_front_has_let_them_read_this_one_reads_too(tmp_path: Path) -> None:
    first, cheap = replicas()
    file = slo(tmp_path)
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        assert (await fleet.post(**CHAT))[0] == 200
        file.write_text("[classes.chat]\nttft_ms = 500\n")
        first.terms = cheap.terms = "of a file that has not come to this node"
        await asyncio.sleep(1.0)
        assert fleet.front.members.deployments.ceilings
        first.terms = cheap.terms = fleet.front._settings.file_digest()
        await fleet.until(lambda: not fleet.front.members.deployments.ceilings)
        assert (await fleet.post(**CHAT))[0] == 429


async def test_a_file_that_is_replaced_while_it_is_read_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cheap = replicas()
    file = slo(tmp_path)
    async with fleet_of(first, cheap, slo_config=file, fallback=FALLBACK) as fleet:
        file.write_text("[classes.chat]\nttft_ms = 500\n")
        theirs = fleet.front._settings.file_digest()
        monkeypatch.setattr(FleetSettings, "file_digest", lambda _: theirs)
        file.write_text("[classes.chat]\nttft_ms = 700\n")
        first.terms = cheap.terms = theirs
        await asyncio.sleep(1.5)
        assert fleet.front.members.terms == {theirs}
        assert fleet.front.members.deployments.ceilings


async def test_all_that_may_be_named_is_listed(tmp_path: Path) -> None:
    first, cheap = FakeReplica("first", lists("tiny")), FakeReplica("cheap", lists(NAME, "tiny"))
    cheap.fallback = True
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, told = await fleet.get("/v1/models")
        assert (status, told["object"]) == (200, "list")
        assert told["data"] == [{"id": "tiny", "by": "first"}, {"id": NAME, "by": "cheap"}]
        first.handler = says(401)
        assert (await fleet.get("/v1/models"))[0] == 401


@pytest.mark.parametrize("down", ["first-0", "first-1", "cheap-0", "cheap-1"])
async def test_a_replica_that_is_down_hides_no_model(tmp_path: Path, down: str) -> None:
    """Before it is known to be."""
    firsts = [FakeReplica(f"first-{n}", lists("tiny")) for n in range(2)]
    cheaps = [FakeReplica(f"cheap-{n}", lists(NAME), fallback=True) for n in range(2)]
    async with fleet_of(*firsts, *cheaps, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        for replica in (*firsts, *cheaps):
            if replica.name == down:
                replica.handler = hangs_up
        status, told = await fleet.get("/v1/models")
        assert (status, [one["id"] for one in told["data"]]) == (200, ["tiny", NAME])
        assert down not in [one["by"] for one in told["data"]]


async def test_a_deployment_that_does_not_answer_hides_not_the_other(tmp_path: Path) -> None:
    first, cheap = FakeReplica("first", lists("tiny")), FakeReplica("cheap", says(503))
    cheap.fallback = True
    async with fleet_of(first, cheap, slo_config=slo(tmp_path), fallback=FALLBACK) as fleet:
        status, told = await fleet.get("/v1/models")
        assert (status, [one["id"] for one in told["data"]]) == (200, ["tiny"])
        first.handler = says(503)
        assert (await fleet.get("/v1/models"))[0] == 503
