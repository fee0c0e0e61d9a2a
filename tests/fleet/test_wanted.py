"""Does a front count, for its replicas, what was taken for work, and each request once?"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientError

from scorpio.core.routing.autoscale import AutoscaleOptions
from scorpio.fleet.counts import GONE_S, Counts
from scorpio.fleet.exchange import Outgoing
from scorpio.server.request.slo_headers import QUOTE_HEADER
from tests.core.routing.fleets import request
from tests.fleet.replicas import (
    FakeReplica,
    Handler,
    answers,
    fleet_of,
    hangs_up,
    refuses,
    says,
    streams,
)

pytestmark = pytest.mark.asyncio


async def test_a_front_says_how_many_replicas_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where they are its to choose."""
    monkeypatch.setattr(
        "scorpio.fleet.settings.AutoscaleOptions", partial(AutoscaleOptions, every_s=1.0)
    )
    name = "scorpio_fleet_wanted_replicas"
    async with fleet_of(FakeReplica("a")) as fleet:
        assert name not in (await fleet.get("/metrics"))[1]
    async with fleet_of(FakeReplica("a"), replicas=1, max_replicas=4) as fleet:
        for _ in range(40):
            lines = (await fleet.get("/metrics"))[1].splitlines()
            if f"{name} 1.0" in lines:
                break
            await asyncio.sleep(0.1)
        assert f"{name} 1.0" in lines
        assert fleet.front.wanted_replicas == 1


@pytest.mark.parametrize(
    ("handler", "times"),
    [
        (answers, 3),
        (streams(2), 3),
        (says(401), 0),  # a wrong key
        (says(400), 0),
        (refuses("ttft_infeasible", 50_000), 1),  # it comes again when it was told to, and again
        (refuses("client_limit", 50_000), 0),
        (hangs_up, 0),
    ],
)
async def test_what_is_taken_for_work_is_what_replicas_are_for(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, times: int
) -> None:
    """The same request three times."""
    counted: list[Any] = []
    async with fleet_of(FakeReplica("a", handler), replicas=1, max_replicas=4) as fleet:
        monkeypatch.setattr(fleet.front._wanted, "_note", lambda *args: counted.append(args))
        for _ in range(3):
            with contextlib.suppress(ClientError):
                async with fleet.session.post(
                    fleet.url + "/v1/completions", json={"prompt": "x", "max_tokens": 4}
                ) as answer:
                    await answer.read()
            await fleet.until(lambda: len(fleet.front.members) == 1)
    assert len(counted) == times


async def test_what_was_quoted_comes_for_the_first_time() -> None:
    asked: list[float] = []
    async with fleet_of(FakeReplica("a")) as fleet:
        dispatcher = fleet.front._dispatcher
        dispatcher._awaited._note(b"token", "a", 60.0)
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"",
                 "headers": [(QUOTE_HEADER.encode(), b"token")]}  # fmt: skip
        await dispatcher.generate(request(), Outgoing(scope, b"{}"), _into_nothing, asked.append)
    assert len(asked) == 1


async def _into_nothing(_: object) -> None:
    pass


async def test_labels_of_a_replica_that_is_gone_go_too() -> None:
    now_s = 0.0
    async with fleet_of(FakeReplica("a")) as fleet:
        counts = Counts(lambda: now_s)
        for name in ("a", "gone"):
            counts.sent(name)
            counts.not_answered(name, "lost")
        now_s = GONE_S
        assert counts.text(fleet.front.members).count(b'replica="gone"') >= 2  # still to be read
        now_s += 1.0
        text = counts.text(fleet.front.members)
    assert b"gone" not in text
    assert text.count(b'replica="a"') >= 2
