"""Can the policy be turned off by hand, by each of the three ways, and is it written down?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.accounts import audit
from scorpio.server.accounts.kill_switch import OFF_PATH, OffSignal
from tests.server.keyed import Keyed, bearer, slo_file


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


def acts(keyed: Keyed) -> list[tuple[Any, ...]]:
    lines = (keyed.run_dir / audit.FILE).read_text().splitlines()
    told = map(json.loads, lines)
    return [(t["act"], t["before"], t["after"], t["remote"], t["outcome"]) for t in told]


async def test_off_and_on_again(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    file = keyed.run_dir / channel.OFF
    for _ in range(2):  # twice is as once
        reply = await keyed.call("PUT", OFF_PATH, headers=bearer("sesame"))
        assert (reply.status, reply.json()["off"], reply.json()["file"]) == (200, True, str(file))
        assert file.read_text().startswith("off since 20")
        status = (await keyed.call("GET", "/scorpio/status")).json()
        assert status["off_by_hand"] is True
        assert "IT IS OFF NOW" in status["in_force"]["turn_off"]
    for _ in range(2):
        reply = await keyed.call("DELETE", OFF_PATH, headers=bearer("sesame"))
        assert (reply.status, reply.json()["off"]) == (200, False)
        assert not file.exists()
    assert (await keyed.call("GET", "/scorpio/status")).json()["off_by_hand"] is False
    states = [(act, before, after) for act, before, after, *_ in acts(keyed)]
    turned = [
        ("off", "on", "off"),
        ("off", "off", "off"),
        ("off", "off", "on"),
        ("off", "on", "on"),
    ]
    assert states == turned


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_not_without_the_token(tmp_path: Path, method: str) -> None:
    keyed = Keyed(tmp_path, slo_file())
    assert (await keyed.call(method, OFF_PATH, headers=bearer("x"))).status == 401
    assert not (keyed.run_dir / channel.OFF).exists()


async def test_other_methods_are_named(tmp_path: Path) -> None:
    reply = await Keyed(tmp_path, slo_file()).call("POST", OFF_PATH, headers=bearer("sesame"))
    assert (reply.status, reply.headers["allow"]) == (405, "PUT, DELETE")


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    off_file = tmp_path / "gone" / "off"
    keyed = Keyed(tmp_path, slo_file(), config={"off_file": str(off_file)})
    reply = await keyed.call("PUT", OFF_PATH, headers=bearer("sesame"))
    assert reply.status == 409
    assert str(off_file) in reply.json()["error"]["message"]
    assert acts(keyed) == [("off", "on", "on", "unknown", "409")]


async def test_a_signal_turns_it_off_and_never_on(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    file, server = keyed.run_dir / channel.OFF, keyed.context
    OffSignal(server).take()
    try:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR2)
            for _ in range(500):
                await asyncio.sleep(0.01)
                if file.exists() and len(acts(keyed)) == 1:
                    break
            assert file.exists()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)
    assert {act[3] for act in acts(keyed)} == {"SIGUSR2"}
