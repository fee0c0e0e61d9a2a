"""Data-parallel engines behind one server: one status of all, a series of each, and one that hangs
beside others that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scorpio import channel
from scorpio.server.state.merged_status import merged
from tests.server.fake_vllm import FakeEngine, FakeServer, client
from tests.server.test_frozen import World
from tests.server.test_metrics import MetricsServer

FIRST: dict[str, Any] = {
    "policy": "scorpio",
    "policy_options": {"kappa": 1.5},
    "control_seq": 3,
    "control_error": "",
    "steps": 10,
    "tokens_per_step": 1.9,
    "running": 2,
    "unfinished": 2,
    "breaker_open": False,
    "heartbeat_unix_s": 100.0,
    "last_progress_unix_s": 99.0,
    "by_class": {"chat": {"outcomes": {"finished": 7}, "ttft_slack": [1, 2]}},
    "schedule_us": {"p50": 100.0, "p99": 900.0},
    "faults": {"policy: KeyError": {"count": 1, "first_unix_s": 5.0, "last_unix_s": 6.0}},
}
SECOND: dict[str, Any] = {
    **FIRST,
    "control_seq": 2,
    "control_error": "unknown policy",
    "steps": 4,
    "tokens_per_step": 1.4,
    "running": 1,
    "breaker_open": True,
    "heartbeat_unix_s": 90.0,
    "last_progress_unix_s": 91.0,
    "by_class": {
        "chat": {"outcomes": {"finished": 1, "rejected": 2}, "ttft_slack": []},
        "batch": {"outcomes": {"finished": 4}},
    },
    "schedule_us": {"p50": 150.0, "p99": 300.0},
    "faults": {"policy: KeyError": {"count": 2, "first_unix_s": 1.0, "last_unix_s": 9.0}},
}


def test_what_several_engines_say_together() -> None:
    assert merged([FIRST]) == FIRST
    assert merged([FIRST, SECOND]) == {
        "policy": "scorpio",
        "policy_options": {"kappa": 1.5},
        "control_seq": 2,
        "control_error": "unknown policy",
        "steps": 14,
        "tokens_per_step": 1.4,
        "running": 3,
        "unfinished": 4,
        "breaker_open": True,
        "heartbeat_unix_s": 90.0,
        "last_progress_unix_s": 91.0,
        "by_class": {
            "chat": {"outcomes": {"finished": 8, "rejected": 2}, "ttft_slack": [1, 2]},
            "batch": {"outcomes": {"finished": 4}},
        },
        "schedule_us": {"p50": 150.0, "p99": 900.0},
        "faults": {"policy: KeyError": {"count": 3, "first_unix_s": 1.0, "last_unix_s": 9.0}},
    }


@pytest.mark.parametrize("name", ["load", "paused", "p50", "replica"])
def test_a_class_may_have_any_name(name: str) -> None:
    states = [{"by_class": {name: {"outcomes": {"finished": n}}}} for n in (1, 2)]
    assert merged(states) == {"by_class": {name: {"outcomes": {"finished": 3}}}}


def test_what_an_engine_does_not_know_yet_is_no_error() -> None:
    assert merged([{"p50": None, "x": 1}, {"p50": 2.0, "x": None}, {}]) == {"p50": 2.0, "x": 1}
    assert merged([{"p50": None}, {"p50": None}]) == {"p50": None}


async def test_status_is_of_all_and_of_each(tmp_path: Path) -> None:
    server = FakeServer(FakeEngine(), {"run_dir": str(tmp_path)}, engines=2)
    channel.write_status(tmp_path, FIRST, 0)
    channel.write_status(tmp_path, SECOND, 1)
    found = (await client(server).request("GET", "/scorpio/status")).json()
    assert (found["steps"], found["control_seq"]) == (14, 2)
    assert {key: engine["steps"] for key, engine in found["engines"].items()} == {"0": 10, "1": 4}


async def test_each_engine_has_its_series(tmp_path: Path) -> None:
    server = MetricsServer(FakeEngine(), {"run_dir": str(tmp_path)}, engines=2)
    channel.write_status(tmp_path, FIRST, 0)
    channel.write_status(tmp_path, SECOND, 1)
    reply = await client(server).request("GET", "/metrics")
    families = list(text_string_to_metric_families(reply.body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    found = {
        sample.labels["engine"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "scorpio_running_requests"
    }
    assert found == {"0": 2.0, "1": 1.0}


@pytest.mark.parametrize(("frozen", "silent"), [(1, True), (None, False)])
async def test_one_that_hangs_is_seen_beside_one_that_works(
    tmp_path: Path, frozen: int | None, silent: bool
) -> None:
    world = World(run_dir=str(tmp_path))
    world.middleware._attached.status.engines = range(2)  # type: ignore[union-attr]
    world.engine.hung = True  # a question to all engines is answered by none
    for look in range(8):
        for engine in (0, 1):
            heard_s = 0.0 if engine == frozen else float(look)
            state = {**FIRST, "heartbeat_unix_s": heard_s, "last_progress_unix_s": heard_s}
            channel.write_status(tmp_path, state, engine)
        await world.pass_s(0.5)
    assert (world.middleware._attached.silence.silent_s > 2.0) is silent  # type: ignore[union-attr]
