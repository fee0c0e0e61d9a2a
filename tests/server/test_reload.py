"""Does a new SLO file come into force while requests are served, and a bad one never?"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from scorpio.core.slo import OnMiss, SloBook
from scorpio.core.wire import decode_slo
from scorpio.server.accounts import reload as reloading
from scorpio.server.middleware import ScorpioMiddleware
from tests.server.asgi import Client
from tests.server.fake_vllm import FakeEngine, FakeServer
from tests.server.keyed import ACME, BETA, Keyed, bearer, slo_file

ADMIN = bearer("sesame")


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


async def status(keyed: Keyed) -> Any:
    return (await keyed.call("GET", "/scorpio/status")).json()


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_new_file_is_in_force_at_once(tmp_path: Path, method: str) -> None:
    keyed = Keyed(tmp_path, slo_file())
    assert (await keyed.chat(vllm_xargs={"slo_class": "interactive"})).status == 200
    before = (await status(keyed))["slo_config"]
    keyed.file.write_text(slo_file('classes = ["batch"]\ndefault_class = "batch"'))
    assert (await keyed.chat(vllm_xargs={"slo_class": "interactive"})).status == 200
    reply = await keyed.call(method, "/scorpio/config", headers=ADMIN)
    assert reply.status == 200
    told = reply.json()
    assert (told["changed"], told["needs_restart"], told["error"]) == (["tenants"], [], "")
    assert (await keyed.chat(vllm_xargs={"slo_class": "interactive"})).status == 403
    after = (await status(keyed))["slo_config"]
    assert after["sha256"] != before["sha256"]
    assert after["loaded_unix_s"] >= before["loaded_unix_s"] > 1e9
    assert after["file"] == str(keyed.file)


async def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    before = await status(keyed)
    keyed.file.write_text(slo_file('classes = ["batch"]\ndefault_class = "batch"'))
    told = (await keyed.call("PUT", "/scorpio/config?dry_run=true", headers=ADMIN)).json()
    assert (told["changed"], told["dry_run"]) == (["tenants"], True)
    assert told["sha256"] != before["slo_config"]["sha256"]
    assert await status(keyed) == before
    assert (await keyed.call("PUT", "/scorpio/config?dry_run=true")).status == 401
    keyed.file.write_text("classes = [\n")
    reply = await keyed.call("PUT", "/scorpio/config?dry_run=true", headers=ADMIN)
    assert (reply.status, "not TOML" in reply.json()["error"]["message"]) == (400, True)
    after = await status(keyed)
    assert "not TOML" in after["slo_config"].pop("error")
    assert before["slo_config"].pop("error") == ""
    assert after == before
    assert (await keyed.chat(vllm_xargs={"slo_class": "interactive"})).status == 200


async def test_a_key_that_was_taken_out_opens_nothing(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    keyed.file.write_text(slo_file().replace("[tenants.beta]", "[tenants.gamma]"))
    assert (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).status == 200
    assert (await keyed.chat(BETA)).status == 200
    assert (await status(keyed))["tenants"].keys() == {"acme", "gamma"}
    keyed.file.write_text(slo_file().split("[tenants.beta]")[0])
    assert (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).status == 200
    assert (await keyed.chat(BETA)).status == 401


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[classes.a]\nttft_ms = -1\n", "line 2: classes.a.ttft_ms"),
        ("default_class = 'gone'\n", "line 1: default_class 'gone' is not a class"),
        ("classes = [\n", "not TOML"),
        ("[tenants.acme]\nkeys = ['sk-a-key']\n", "line 2: tenants.acme.keys"),
        (None, "cannot read: No such file"),
    ],
)
async def test_a_bad_file_changes_nothing_and_says_why(
    tmp_path: Path, text: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    keyed = Keyed(tmp_path, slo_file("most_in_flight = 7"))
    before = await status(keyed)
    if text is None:
        keyed.file.unlink()
    else:
        keyed.file.write_text(text)
    reply = await keyed.call("PUT", "/scorpio/config", headers=ADMIN)
    assert reply.status == 400
    assert said in reply.json()["error"]["message"]
    after = await status(keyed)
    assert said in after["slo_config"].pop("error")
    assert said in caplog.text
    before["slo_config"].pop("error")
    assert after == before
    metrics = (await keyed.call("GET", "/metrics")).body.decode()
    assert 'scorpio_config_error{engine="0",model_name="tiny"} 1.0' in metrics
    assert (await keyed.chat()).status == 200
    keyed.file.write_text(slo_file())  # and a good one ends it
    assert (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).json()["error"] == ""


async def test_requests_in_flight_keep_their_terms(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1000", top="rejection_status = 503"))
    keyed.engine.hold = asyncio.Event()
    task = asyncio.create_task(keyed.chat(vllm_xargs={"slo_class": "interactive"}))
    while not keyed.engine.params:
        await asyncio.sleep(0)
    assert decode_slo(keyed.told["scorpio_slo"])[0].ttft_s == 0.5  # type: ignore[index]
    keyed.file.write_text("[classes.other]\nttft_ms = 9\n")
    assert (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).status == 200
    keyed.engine.hold.set()
    assert (await task).status == 200
    assert keyed.context.in_flight.by_account == {}
    assert keyed.context.uses.by_name == {}


async def test_the_engine_is_told_classes_that_it_does_not_know(tmp_path: Path) -> None:
    """It was started with the first file's; until they differ it needs no word."""
    classes = {"interactive": {"ttft_ms": 500, "tpot_ms": 50}, "batch": {"ttft_ms": 60000}}
    keyed = Keyed(tmp_path, slo_file(), config={"classes": classes})
    assert (await keyed.chat(vllm_xargs={"slo_class": "batch"})).status == 200
    assert "scorpio_slo" not in keyed.told
    text = (
        'default_class = "slow"\n[classes.slow]\ne2el_ms = 9000\nvalue = 4\non_miss = "degrade"\n'
    )
    keyed.file.write_text(text)
    await keyed.call("PUT", "/scorpio/config", headers=ADMIN)
    assert (await keyed.chat(None)).status == 200
    told = decode_slo(keyed.told["scorpio_slo"])
    assert told is not None
    slo, name = told
    assert (name, slo.e2e_s, slo.value, slo.on_miss) == ("slow", 9.0, 4.0, OnMiss.DEGRADE)
    assert (await keyed.chat(None, headers={"x-slo-e2el-ms": "10000"})).status == 200
    assert keyed.told["scorpio_slo"].startswith("inf inf 10.0 4.0 degrade")


@pytest.mark.parametrize(
    "raw", [None, 5, "", "inf", "1 1 1 1 reject", "nan 1 1 1 reject x", "1 1 1 1 panic x",
            "-1 1 1 1 wait x", "1 1 1 inf wait x"]
)  # fmt: skip
def test_what_is_no_slo_is_none(raw: object) -> None:
    assert decode_slo(raw) is None


async def test_what_only_a_restart_changes_is_named(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    keyed.file.write_text(slo_file(top="most_waiting = 5\nledger_mib = 1\nmost_in_flight = 9"))
    told = (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).json()
    assert told["needs_restart"] == ["most_waiting", "ledger_mib"]
    assert (await status(keyed))["slo_config"]["needs_restart"] == ["most_waiting", "ledger_mib"]
    assert keyed.context.in_flight.caps.requests == 9  # the others are in force


async def test_a_rate_keeps_what_was_used(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file("rate_tokens_per_s = 1\nburst_tokens = 10"), length=50)
    assert (await keyed.chat()).status == 200
    assert (await keyed.chat()).status == 429
    keyed.file.write_text(slo_file("rate_tokens_per_s = 1\nburst_tokens = 20"))
    await keyed.call("PUT", "/scorpio/config", headers=ADMIN)
    assert (await keyed.chat()).status == 429
    keyed.file.write_text(slo_file())
    await keyed.call("PUT", "/scorpio/config", headers=ADMIN)
    assert (await keyed.chat()).status == 200


async def test_without_a_file_there_is_nothing_to_read(tmp_path: Path) -> None:
    server = FakeServer(FakeEngine(), {})
    reply = await Client(ScorpioMiddleware(server), server).request(
        "PUT", "/scorpio/config", headers=ADMIN
    )
    assert (reply.status, "--slo-config" in reply.json()["error"]["message"]) == (409, True)


async def test_sighup_reads_the_file(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    reloader = reloading.Reloader(keyed.context)
    before = signal.getsignal(signal.SIGHUP)
    reloader.take_signal()
    try:
        for text, done in (
            ("[classes.new]\n", lambda: "new" in keyed.context.settings.classes),
            ("broken", lambda: keyed.context.reload_error),
        ):
            keyed.file.write_text(text)
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(10):
                while not done():
                    await asyncio.sleep(0.01)
        assert "new" in keyed.context.settings.classes
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)


async def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, "nonsense = 1\n")
    with pytest.raises(ValueError, match="line 1: nonsense: unknown field 'nonsense'; valid"):
        await keyed.chat()


def test_the_book_of_an_empty_file_is_empty() -> None:
    assert SloBook() == SloBook({})


async def test_keys_survive_a_reload_that_changes_nothing(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    told = (await keyed.call("PUT", "/scorpio/config", headers=ADMIN)).json()
    assert told["changed"] == []
    assert (await keyed.chat(ACME)).status == 200
