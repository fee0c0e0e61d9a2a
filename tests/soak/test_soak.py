"""Would a soak see a leak, and does it send what it says?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scorpio.studies.results import Header
from tests.engine_server import ENGINE_MARKS, MODEL, EngineServer
from tests.soak.mix import HOPELESS, soak_request
from tests.soak.page import publish
from tests.soak.processes import Held, held_by, held_by_tree
from tests.soak.record import Quiet, Sample, SoakRecord
from tests.soak.run import Periods, Soak
from tests.soak.slope import slope_per_hour
from tests.soak.verdict import BROKEN, HOLDS, OPEN, findings

WELL = {"fallbacks": 0, "breaker_open": False}


def record(leak_mib_h: float = 0.0, climbing: bool = False, minutes: float = 100.0) -> SoakRecord:
    """A made-up soak: a process of 500 MiB with noise that lasts, and a leak."""
    chance, noise, samples, quiet = np.random.default_rng(1), 0.0, [], []
    for i in range(int(minutes * 6)):
        noise = 0.6 * noise + float(chance.normal(0.0, 0.1))
        held = Held(500.0 + leak_mib_h * i / 360.0 + noise, 300.0, 40 + i * climbing, 20)
        quiet += [Quiet(10.0 * i, 0.0, 0, 0, {"engine": held})] * (i % 30 == 29)
        samples.append(Sample(10.0 * i, {"engine": held}, 3, 0, 0.4, {"finished": 100}, 0.02))
    return SoakRecord(
        Header("abc", "2026-11-28", "2 x a CPU", "make soak"),
        *(minutes, 11.0, 0, 14),
        sent=60000,
        ended={"finished": 60000},
        samples=samples,
        quiet=quiet,
        status=WELL,
    )


def verdict(what: str, seen: SoakRecord) -> str:
    (found,) = [f for f in findings(seen) if what in f.what]
    return found.verdict


def test_slope_of_a_line_and_of_noise() -> None:
    at_s = [10.0 * i for i in range(200)]
    exact = slope_per_hour(at_s, [5.0 + 2.0 * t / 3600.0 for t in at_s])
    assert exact is not None
    assert exact.mean == pytest.approx(2.0)
    inside = 0
    for seed in range(60):  # noise in which each value remembers the one before
        chance, values, now = np.random.default_rng(seed), [], 0.0
        for t in at_s:
            now = 0.8 * now + float(chance.normal())
            values.append(now + t / 3600.0)
        found = slope_per_hour(at_s, values)
        assert found is not None
        inside += found.low <= 1.0 <= found.high
    assert inside >= 52  # 57 of 60 wanted; without the correction 36
    assert slope_per_hour([1.0, 2.0], [1.0, 2.0]) is None


@pytest.mark.parametrize(("leak", "expected"), [(0.0, HOLDS), (3.0, BROKEN)])
def test_a_leak_is_seen(leak: float, expected: str) -> None:
    assert verdict("RSS of engine", record(leak)) == expected


def test_little_time_cannot_tell() -> None:
    assert verdict("RSS of engine", record(minutes=1.5)) == OPEN
    assert verdict("the server lives to the end", replace(record(), minutes=200.0)) == OPEN


def test_everything_else_that_breaks_is_seen() -> None:
    good = record()
    assert {f.verdict for f in findings(good)} == {HOLDS}
    assert verdict("descriptors", record(climbing=True)) == BROKEN
    held = replace(good, quiet=[Quiet(300.0, 0.1, 0, 0)])
    assert verdict("all KV is free", held) == BROKEN
    assert verdict("all KV is free", replace(good, quiet=[Quiet(300.0, 0.0, 0, 1)])) == BROKEN
    assert verdict("no request fails", replace(good, ended={"failed": 1})) == BROKEN
    left = ["9 s: ServerDisconnectedError: Server disconnected"]
    assert verdict("no request fails", replace(good, ended={"failed": 1}, errors=left)) == HOLDS
    assert verdict("no request fails", replace(good, ended={"failed": 2}, errors=left)) == BROKEN
    many = replace(good, ended={"failed": 100}, errors=left * 100)
    assert verdict("no request fails", many) == BROKEN
    assert verdict("lives", replace(good, broke="the server ended")) == BROKEN
    assert verdict("fallback", replace(good, status=WELL | {"fallbacks": 1})) == BROKEN


def test_a_record_is_read_as_it_was_written_and_shown(tmp_path: Path) -> None:
    made = record(minutes=20.0)
    made.write(tmp_path / "soak.json")
    back = SoakRecord.read(tmp_path / "soak.json")
    assert back == made
    page = publish(back, tmp_path / "docs")
    assert "| RSS of engine grows by less than 1 MiB/h |" in page.read_text()
    assert (tmp_path / "docs" / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_the_mix_is_what_it_says() -> None:
    requests = [soak_request(0, number, MODEL) for number in range(2000)]
    assert requests[5] == soak_request(0, 5, MODEL)
    assert sum(r.abort_after_s is not None for r in requests) == 200
    assert sum("structured_outputs" in r.body for r in requests) == 100
    assert sum(r.headers == HOPELESS for r in requests) == 200
    assert {r.path for r in requests} >= {"/v1/responses", "/v1/messages"}


def test_processes_are_looked_at() -> None:
    own = held_by(os.getpid())
    assert own.rss_mib > own.anonymous_mib > 1.0
    assert own.descriptors >= 3
    assert own.threads >= 1
    assert "api" in held_by_tree(os.getpid())


class TestOnTheEngine:
    """A soak of a few seconds, everything in it."""

    pytestmark = ENGINE_MARKS

    async def test_short_soak(self, engine_server: EngineServer, tmp_path: Path) -> None:
        made = replace(record(), minutes=0.25, samples=[], quiet=[], ended={}, sent=0, status={})
        soak = Soak(
            engine_server.url, engine_server.process, MODEL, made, Periods(sample_s=1.0, quiet_s=8)
        )
        await soak.run(tmp_path / "soak.json", lambda line: None)
        assert made.broke == ""
        assert made.errors == []
        assert sum(made.ended.values()) == made.sent > 40
        assert all(made.ended[how] > 0 for how in ("finished", "refused", "aborted"))
        assert made.quiet
        assert all(look.clean for look in made.quiet)
        assert {"api", "engine"} <= set(made.samples[-1].processes)
