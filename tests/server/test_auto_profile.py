"""When is an engine measured that never was, and what is said of it?"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predictors.latency.artifact import Machine, ProfileFile
from scorpio import channel
from scorpio.server.launch import auto_profile
from scorpio.server.launch.auto_profile import AutoProfile
from scorpio.server.launch.profile_check import ChosenProfile
from scorpio.server.state.in_force import in_force
from tests.engine_server import PROFILE
from tests.server.keyed import CLASSES, Keyed

STARTING, BUSY, IDLE = {"engine_reported": False}, {"engine_reported": True, "unfinished": 2}, {
    "engine_reported": True,
    "unfinished": 0,
}  # fmt: skip


def measured(
    monkeypatch: pytest.MonkeyPatch, states: list[Any], run: Callable[..., Any]
) -> tuple[list[str], int]:
    """What it says, and how many states it has looked at."""
    said: list[str] = []
    looked = iter(states)

    class Answer:
        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, *_: object) -> bytes:
            return json.dumps(self.state).encode()

        def __init__(self, state: Any) -> None:
            self.state = state

    def look(*_: object, **__: object) -> Answer:
        state = next(looked)
        if state is None:
            raise OSError("it still starts")
        return Answer(state)

    monkeypatch.setattr(urllib.request, "urlopen", look)
    monkeypatch.setattr(auto_profile, "PERIOD_S", 0.001)
    monkeypatch.setattr(auto_profile, "IDLE_S", 0.003)
    monkeypatch.setattr(subprocess, "run", run)
    AutoProfile("http://x", Path("run"), "tiny", Path("out.json"), said.append)._measure()
    return said, len(states) - len(list(looked))


def done(code: int, error: str = "") -> Callable[..., Any]:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:6] == ["-m", "scorpio", "profile", "--model", "tiny"]
        assert command[-1] == "--apply"
        return subprocess.CompletedProcess(command, code, "", error)

    return run


def test_it_waits_until_the_engine_was_idle_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [None, STARTING, IDLE, BUSY, IDLE, IDLE, IDLE, IDLE, IDLE]
    said, looked = measured(monkeypatch, states, done(0))
    assert looked in (7, 8)  # three or four in a row, as sums of thousandths come out
    assert ["about 100 s" in said[0], said[1:]] == [True, ["measured, in force and kept: out.json"]]


def test_what_goes_wrong_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [IDLE] * 9
    said, _ = measured(monkeypatch, states, done(1, "a\nscorpio: no steps were recorded\n"))
    wanted = "the engine was not measured: scorpio: no steps were recorded; run `scorpio profile`"
    assert said[1] == wanted

    def gone(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("scorpio", 900)

    said, _ = measured(monkeypatch, states, gone)
    assert said[1] == "the engine was not measured: TimeoutExpired"


async def test_what_is_in_force_says_of_what_the_profile_is(tmp_path: Path) -> None:
    fit = {"mixed_form": {"all": {"mape": 0.0672}}}
    file = ProfileFile(PROFILE, "smollm2", Machine("Xeon", 2), "0.32.0", "2026-11-29T10:51:08", fit)
    settings = ChosenProfile(tmp_path / "latency.json", file, given=True).settings()
    told = in_force(Keyed(tmp_path, CLASSES, config=settings).context)["latency_profile"]
    wanted = "measured 2026-11-29T10:51:08: model smollm2, machine Xeon, step_error 6.7%"
    assert told == f"tests; {wanted}"


async def test_a_profile_put_in_force_later_is_told_too(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, CLASSES)
    none = in_force(keyed.context)["latency_profile"]
    assert str(none).startswith("none: ")
    channel.write_status(keyed.run_dir, {"policy": "scorpio", "latency_source": "none"}, 0)
    assert in_force(keyed.context)["latency_profile"] == none
    measured = {"policy": "scorpio", "latency_source": "measured here"}
    channel.write_status(keyed.run_dir, measured, 0)
    told = in_force(keyed.context)["latency_profile"]
    assert told == "measured here; put in force since the start"
    quote = await keyed.call("POST", "/v1/slo/quote", {"prompt_tokens": 9})
    assert b"no latency profile" not in quote.body  # it is asked for from then on


@pytest.mark.parametrize(
    "fit",
    [{}, {"mixed_form": None}, {"mixed_form": {}}, {"mixed_form": {"all": {"mape": "little"}}}],
)
def test_a_profile_without_its_error_starts_all_the_same(tmp_path: Path, fit: Any) -> None:
    file = ProfileFile(PROFILE, "tiny", Machine("Xeon", 2), "0.32.0", "today", fit)
    settings = ChosenProfile(tmp_path / "latency.json", file, given=True).settings()
    assert set(settings["latency_facts"]) == {"created", "model", "machine"}
