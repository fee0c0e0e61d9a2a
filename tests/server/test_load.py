"""Is a router told what the engine has to do, and how old that is?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.routing.load import MIDDLING, Replica, ReplicaLoad
from scorpio.server.state.load import LOAD_PATH
from scorpio.server.state.merged_status import merged
from tests.server.asgi import Client
from tests.server.test_health import World

FACTS = Replica(MIDDLING, 2048, 256, 10_000)


def told(load: ReplicaLoad, **more: Any) -> dict[str, Any]:
    return {"policy": "scorpio", "replica": FACTS.to_dict(), "load": load.to_dict(), **more}


async def ask(world: World) -> dict[str, Any]:
    reply = await Client(world.middleware, world.server).request("GET", LOAD_PATH)
    assert reply.status == 200
    return dict(reply.json())


async def test_before_the_engine_has_said_anything_there_is_none(tmp_path: Path) -> None:
    assert await ask(World(run_dir=str(tmp_path))) == {
        "state": "ok", "policy": "scorpio", "terms": "", "engines": [],
    }  # fmt: skip


async def test_what_the_engine_has_published_is_told_with_its_age(tmp_path: Path) -> None:
    load = ReplicaLoad(time.time() - 0.3, running=4, batch=((0.05, 4),))
    channel.write_status(tmp_path, told(load, unfinished=4))
    (engine,) = (await ask(World(run_dir=str(tmp_path))))["engines"]
    assert ReplicaLoad.from_dict(engine["load"], load.at_s) == load
    assert Replica.from_dict(engine["replica"]) == FACTS
    assert 0.3 <= engine["age_s"] < 60.0


async def test_an_idle_engine_is_idle_now(tmp_path: Path) -> None:
    world = World(run_dir=str(tmp_path))
    channel.write_status(tmp_path, told(ReplicaLoad(time.time() - 500.0), unfinished=0))
    assert (await ask(world))["engines"][0]["age_s"] == 0.0
    with world.context.flights.call():  # on its way to the engine
        assert (await ask(world))["engines"][0]["age_s"] >= 500.0


async def test_a_server_that_drains_says_so(tmp_path: Path) -> None:
    world = World(run_dir=str(tmp_path))
    world.context.flights.draining = True
    assert (await ask(world))["state"] == "draining"


async def test_engines_are_told_one_by_one(tmp_path: Path) -> None:
    world = World(run_dir=str(tmp_path))
    world.context.status.engines = (0, 1)
    for rank in (0, 1):
        channel.write_status(tmp_path, told(ReplicaLoad(0.0, running=rank + 1)), rank)
    assert [e["load"]["running"] for e in (await ask(world))["engines"]] == [1, 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (([1, 2], [10]), [11, 2]),
        ((["a"], ["b", "c"]), ["a"]),
        (([], []), []),
        (([[1]], [[2]]), [[1]]),
    ],
)
def test_only_lists_of_numbers_add_up(values: tuple[list[Any], ...], expected: list[Any]) -> None:
    assert merged([{"x": value} for value in values]) == {"x": expected}
