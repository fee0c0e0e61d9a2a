"""Are the page's numbers those of the status and the ledger, for one engine and for several?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.page.recent import MOST_DECISIONS, MOST_TENANTS, TAIL_BYTES, LedgerEnd, told
from scorpio.server.state.history import PERIOD_S
from tests.ledger.made import entry, refused, write
from tests.server.page_scene import GOOD, Scene, ask, busy


async def test_one_engine(tmp_path: Path) -> None:
    scene = busy(tmp_path)
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert list(found["classes"]) == ["interactive", "standard", "batch"]
    standard = found["classes"]["standard"]
    counts = scene.counts["standard"]
    assert standard["windows"]["all"]["good"] == counts["good"]
    assert standard["asks"] == "TTFT 2,000 ms, TPOT 100 ms; reject"
    refusals = {r: row["all"] for r, row in found["refusals"].items()}
    everywhere = [c["rejections"] for c in scene.counts.values()]
    for reason in ("ttft_infeasible", "tpot_infeasible"):
        assert refusals[reason] == sum(rejected.get(reason, 0) for rejected in everywhere)
    status = (await ask(scene, "/scorpio/status")).json()
    assert found["now"]["waiting"] == status["waiting"]
    assert found["now"]["running"] == status["running"]
    held = status["replica"]["kv_tokens"] - status["load"]["kv_free_tokens"]
    assert found["now"]["kv_held_tokens"] == held
    assert found["forecasts"]["ttft"]["p99"] == status["forecast_error"]["ttft"]["p99"]
    assert found["health"]["schedule_us"] == status["schedule_us"]
    assert len(found["recent"]["decisions"]) == MOST_DECISIONS


async def test_several_engines_are_one_and_each(tmp_path: Path) -> None:
    scene = Scene(tmp_path, engines=3)
    scene.runs(10)
    for engine in range(3):
        scene.writes(4, channel.of_engine(channel.LEDGER, engine))
    scene.says(2, load=1.0, breaker_open=True, policy="scorpio")
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert found["server"]["of"] == "3 engines"
    assert [row["name"] for row in found["engines"]] == ["0", "1", "2"]
    assert [row["state"] for row in found["engines"]] == ["working", "working", "breaker open"]
    for key in ("running", "waiting", "seats", "kv_tokens"):
        assert found["now"][key] == sum(row[key] for row in found["engines"])
    assert found["recent"]["requests"] == 12
    assert found["problems"][0]["grade"] == "serious"
    assert "the policy failed too often" in found["problems"][0]["what"]


async def test_before_any_engine_has_spoken(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.context.history.take()
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert [problem["what"] for problem in found["problems"]] == [
        "no engine has told its status yet"
    ]
    assert found["engines"][0]["state"] == "no status yet"
    assert found["recent"]["decisions"] == []


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"fallbacks": 3}, "the policy failed in 3 steps"),
        ({"passthrough": True, "unsupported_features": "pooling"}, "asked for by: pooling"),
        ({"control_error": "unknown policy"}, "a switch of the policy failed: unknown policy"),
        ({"profile_alarm": True, "profile_factor": 2.31}, "steps take 2.3 times"),
        ({"monitoring_errors": 2}, "monitoring failed 2 times"),
        ({"ledger_dropped": 5}, "5 lines of the ledger were dropped"),
    ],
)
async def test_what_is_wrong_is_said(tmp_path: Path, says: Any, told: str) -> None:
    scene = Scene(tmp_path)
    scene.runs(1, **says)
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert any(told in problem["what"] for problem in found["problems"])


async def test_a_switch_that_is_not_in_force_is_said(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.runs(1)
    channel.write_control(tmp_path, "fcfs")
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert [p["what"] for p in found["problems"]] == ["a switch of the policy is not in force yet"]


@pytest.mark.parametrize("state", ["draining", "dead"])
async def test_a_server_that_ends_says_so(tmp_path: Path, state: str) -> None:
    scene = Scene(tmp_path)
    scene.runs(1)
    scene.context.flights.draining = state == "draining"
    scene.server.engine.errored = state == "dead"
    found = (await ask(scene, "/scorpio/page.json", GOOD)).json()
    assert found["server"]["state"] == state
    assert found["problems"][0]["grade"] == "serious"


@pytest.mark.parametrize("junk", [[], "x", None, {"outcomes": [1]}, {"good": math.inf}, 1e300])
async def test_garbage_in_the_status_is_nothing(tmp_path: Path, junk: object) -> None:
    scene = Scene(tmp_path)
    for key in ("by_class", "waiting", "replica", "load", "forecast_error", "step_error"):
        channel.write_status(tmp_path, {"policy": "scorpio", key: junk})
        scene.at_s += PERIOD_S
        scene.context.history.take()
        scene.page._made = (float("-inf"), scene.page._made[1])
        assert (await ask(scene, "/scorpio/page.json", GOOD)).status == 200
    channel.write_status(tmp_path, {"by_class": {"standard": junk, "x": {"outcomes": junk}}})
    scene.at_s += PERIOD_S
    scene.context.history.take()
    scene.page._made = (float("-inf"), scene.page._made[1])
    assert (await ask(scene, "/scorpio/page.json", GOOD)).status == 200


def test_the_last_requests_of_the_ledger(tmp_path: Path) -> None:
    late = entry(id="chatcmpl-late-0123abcd", missed=("ttft",), arrived_unix_s=1_800_000_001.0)
    write(tmp_path, entry(), refused(arrived_unix_s=1_800_000_000.5), late)
    found = told(LedgerEnd(str(tmp_path), (0,)).entries())
    assert [one["id"] for one in found["decisions"]] == [
        "chatcmpl-late",
        "chatcmpl-aa11",
        "cmpl-bb22",
    ]
    assert [one["outcome"] for one in found["decisions"]] == ["finished", "finished", "rejected"]
    assert found["decisions"][0]["ttft_ms"] == [500.0, 200.0, 180.0]
    assert any("Its first token was predicted" in line for line in found["decisions"][2]["told"])
    assert found["pairs"]["ttft"] == [[200.0, 180.0]] * 2
    assert found["tenants"] == [
        {"tenant": "f6ace85dd5b8", "requests": 3, "counted": 3, "good": 1, "refused": 1,
         "tokens": 3 * 600 + 2 * 51},
    ]  # fmt: skip


def test_the_end_of_a_long_ledger_goes_on_in_the_older_file(tmp_path: Path) -> None:
    lines = 3 * TAIL_BYTES // len(entry().to_line())
    many = [entry(id=f"old-{at}", arrived_unix_s=1e9 + at, tenant=str(at)) for at in range(lines)]
    write(tmp_path, *many, name=channel.LEDGER_OLD)
    write(tmp_path, entry(id="new", arrived_unix_s=2e9))
    with (tmp_path / channel.LEDGER).open("a") as file:
        file.write('{"id": "half a li')
    end = LedgerEnd(str(tmp_path), (0, 1))
    entries = end.entries()
    assert (entries[-1].id, entries[-2].id) == ("new", f"old-{lines - 1}")
    assert len(entries) < lines / 2
    assert len(told(entries)["tenants"]) == MOST_TENANTS
    before = entries[-1]
    assert end.entries()[-1] is before  # not read again
    write(tmp_path, entry(id="newer", arrived_unix_s=2e9 + 1))
    assert end.entries()[-1].id == "newer"


def test_without_a_ledger_there_is_none(tmp_path: Path) -> None:
    for run_dir in (None, str(tmp_path), str(tmp_path / "gone")):
        assert told(LedgerEnd(run_dir, (0,)).entries())["requests"] == 0
