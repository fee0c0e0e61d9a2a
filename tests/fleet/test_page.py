"""Is the page of a fleet that of all its replicas, for a holder of their token alone?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fleet.replicas import FakeReplica, fleet_of
from tests.server.page_scene import GOOD, Scene, busy, served


def with_page(name: str, url: str) -> FakeReplica:
    """A scripted replica whose page is that of a scene."""

    async def passes_on(replica: FakeReplica, request: Any) -> Any:
        from aiohttp import ClientSession, web

        sent = {k: v for k, v in request.headers.items() if k.lower() == "authorization"}
        async with ClientSession() as session, session.get(url + request.path, headers=sent) as got:
            kind = got.content_type
            return web.Response(status=got.status, body=await got.read(), content_type=kind)

    return FakeReplica(name, passes_on)


@asynccontextmanager
async def two(tmp_path: Path) -> AsyncIterator[tuple[Any, Scene, Scene]]:
    """A fleet of two, each with a server's page."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = busy(tmp_path / "a"), Scene(tmp_path / "b", engines=2)
    second.runs(10, load=1.5)
    second.writes(300)
    async with (
        served(first) as one,
        served(second) as other,
        fleet_of(with_page("a", one), with_page("b", other)) as fleet,
    ):
        yield fleet, first, second


async def test_it_is_of_all_replicas(tmp_path: Path) -> None:
    async with two(tmp_path) as (fleet, _, _):
        async with fleet.session.get(fleet.url + "/scorpio/page.json", headers=GOOD) as answer:
            assert answer.status == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            found = await answer.json()
        urls = [r.url for r in fleet.replicas]
        parts = []
        for url in urls:
            async with fleet.session.get(url + "/scorpio/page.json", headers=GOOD) as answer:
                parts.append(await answer.json())
    for label, entry in found["classes"].items():
        for window, counts in entry["windows"].items():
            for key, count in counts.items():
                assert count == sum(p["classes"][label]["windows"][window][key] for p in parts)
        counted = sum(counts[k] for k in ("finished", "rejected", "failed"))
        assert entry["attainment"]["all"] == round(counts["good"] / counted, 4)
    assert found["classes"]["standard"]["asks"] == parts[0]["classes"]["standard"]["asks"]
    assert found["now"]["running"] == sum(p["now"]["running"] for p in parts)
    newest = [p["curves"]["running"][0] for p in parts]
    assert found["curves"]["running"][0] == sum(newest)
    assert found["server"]["of"] == "2 replicas, 2 take requests"
    assert [row["name"] for row in found["engines"]] == ["a", "b/0", "b/1"]
    assert {row["tenant"].split(" on ")[1] for row in found["recent"]["tenants"]} == {"a", "b"}
    for kind, pairs in found["recent"]["pairs"].items():
        assert pairs == [pair for p in parts for pair in p["recent"]["pairs"][kind][-100:]]
    assert found["forecasts"]["ttft"]["forecasts"] == sum(
        p["forecasts"]["ttft"]["forecasts"] for p in parts
    )
    assert found["forecasts"]["ttft"]["p99"] == parts[0]["forecasts"]["ttft"]["p99"]


async def test_the_replicas_decide_who_may_see_it(tmp_path: Path) -> None:
    async with two(tmp_path) as (fleet, first, second):
        for path in ("/scorpio/page.json", "/scorpio/events"):
            for headers in ({}, {"authorization": "Bearer wrong"}):
                async with fleet.session.get(fleet.url + path, headers=headers) as answer:
                    assert answer.status == 401
                    assert "SCORPIO_ADMIN_TOKEN" in (await answer.json())["error"]["message"]
        async with fleet.session.get(fleet.url + "/scorpio/page.json", headers=GOOD) as answer:
            assert answer.status == 200
        # what was made for one token is not for others
        async with fleet.session.get(fleet.url + "/scorpio/page.json") as answer:
            assert answer.status == 401
        async with fleet.session.get(fleet.url + "/scorpio/access") as answer:
            assert await answer.json() == {"access": "token"}
        async with fleet.session.get(fleet.url + "/scorpio/") as answer:
            assert answer.content_type == "text/html"
        first.context.environ = second.context.environ = {}
        async with fleet.session.get(fleet.url + "/scorpio/page.json") as answer:
            assert answer.status == 403


async def test_its_stream_ends_by_itself_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with two(tmp_path) as (fleet, _, _):
        listeners = fleet.front._page.routes._listeners
        listeners._lasts_s, listeners._period_s = 0.2, 0.05
        for _ in range(2):
            async with fleet.session.get(fleet.url + "/scorpio/events", headers=GOOD) as answer:
                assert answer.content_type == "text/event-stream"
                raw = await asyncio.wait_for(answer.read(), 10)
            assert raw.count(b"event: status\n") >= 2
        assert listeners.count == 0


async def test_one_that_is_silent_is_shown_and_does_not_hide_the_others(tmp_path: Path) -> None:
    scene = busy(tmp_path)
    async with (
        served(scene) as url,
        fleet_of(with_page("a", url), FakeReplica("b", state="stalled")) as fleet,
        fleet.session.get(fleet.url + "/scorpio/page.json", headers=GOOD) as answer,
    ):
        found = await answer.json()
    assert found["server"]["of"] == "2 replicas, 1 take requests"
    assert found["server"]["state"] == "ok"
    assert [row["name"] for row in found["engines"]] == ["a", "b"]
    assert found["engines"][1]["state"].startswith("stalled")
    assert any(p["what"].startswith("replica b is stalled") for p in found["problems"])


async def test_without_replicas_it_says_so() -> None:
    async with fleet_of() as fleet:
        status, told = await fleet.get("/scorpio/page.json")
        assert status == 503
        assert "no replica answers" in told["error"]["message"]
