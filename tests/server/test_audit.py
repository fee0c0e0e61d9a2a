"""Is every admin act written down, and is every one refused without the token?"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scorpio.server.accounts import audit
from scorpio.server.state.admin import METHODS
from tests.server.keyed import Keyed, bearer, slo_file

ACTS = ("/scorpio/policy", "/scorpio/config", "/scorpio/nothing", "/scorpio", "/scorpio/status")


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


def lines(keyed: Keyed) -> list[dict[str, Any]]:
    file = keyed.run_dir / audit.FILE
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize("token", [None, "", "Sesame", "sesame2", "sesame\xff", "ÿ"])
async def test_no_act_without_the_token(
    tmp_path: Path, path: str, method: str, token: str | None
) -> None:
    keyed = Keyed(tmp_path, slo_file())
    headers = {} if token is None else bearer(token)
    reply = await keyed.call(method, path, b'{"policy": "fcfs"}', headers)
    assert reply.status == 401
    assert keyed.server.bodies == []
    assert lines(keyed) == []
    assert not (keyed.run_dir / "control.json").exists()


@pytest.mark.parametrize("path", sorted({*METHODS, *ACTS}))
async def test_without_a_token_at_the_start_none_may_act(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCORPIO_ADMIN_TOKEN")
    keyed = Keyed(tmp_path, slo_file())
    for headers in ({}, bearer(""), bearer("sesame")):
        assert (await keyed.call("PUT", path, headers=headers)).status == 403


async def test_one_line_for_each_act(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyed = Keyed(tmp_path, slo_file())
    with caplog.at_level(logging.INFO, "vllm.scorpio"):
        await keyed.call("PUT", "/scorpio/policy", {"policy": "fcfs"}, bearer("sesame"))
        await keyed.call("PUT", "/scorpio/policy", {"policy": "nope"}, bearer("sesame"))
        keyed.file.write_text("[classes.a]\n")
        await keyed.call("PUT", "/scorpio/config", headers=bearer("sesame"))
        keyed.file.write_text("broken")
        await keyed.call("PUT", "/scorpio/config", headers=bearer("sesame"))
    found = lines(keyed)
    assert [(line["act"], line["outcome"]) for line in found] == [
        ("policy", "200"),
        ("policy", "400"),
        ("config", "200"),
        ("config", "400"),
    ]
    assert (found[0]["before"], found[0]["after"]) == ("scorpio", "fcfs {}")
    assert found[1]["after"] == "refused"
    assert found[2]["before"] != found[2]["after"]
    assert found[3]["before"] == found[3]["after"] == found[2]["after"]
    assert {line["token"] for line in found} == {audit_token()}
    assert caplog.text.count("Scorpio: audit: ") == 4
    assert "sesame" not in json.dumps(found) + caplog.text
    assert (keyed.run_dir / audit.FILE).stat().st_mode & 0o077 == 0


def audit_token() -> str:
    from scorpio.server.accounts.admin_token import fingerprint

    return fingerprint({"SCORPIO_ADMIN_TOKEN": "sesame"})


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_BYTES", 2000)
    for number in range(100):
        audit.note(str(tmp_path), audit.Act("policy", "a", f"{number}" * 900, "::1"))
    sizes = [file.stat().st_size for file in tmp_path.glob("audit*")]
    assert len(sizes) == 2
    assert max(sizes) <= 2000
    last = (tmp_path / audit.FILE).read_text().splitlines()[-1]
    assert json.loads(last)["after"].startswith("99")


def test_a_directory_that_is_gone_loses_the_file_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vllm.scorpio"):
        audit.note(str(tmp_path / "gone"), audit.Act("policy", "a", "b", "::1"))
    assert "was not written" in caplog.text
    assert '"act": "policy"' in caplog.text


def test_where_an_act_came_from() -> None:
    assert audit.remote_of({"client": ("10.0.0.7", 5)}) == "10.0.0.7"
    assert audit.remote_of({"client": None}) == "unknown"
    assert audit.remote_of({}) == "unknown"


def test_two_that_find_the_file_full_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two API processes, or two threads of one."""
    replaced = os.replace

    def slowly(*given: Any) -> None:
        time.sleep(0.2)
        replaced(*given)

    monkeypatch.setattr(os, "replace", slowly)
    (tmp_path / audit.FILE).write_text("x" * audit.MOST_BYTES)
    acts = [audit.Act("off", "on", "off", f"{n}") for n in range(2)]
    threads = [threading.Thread(target=audit.note, args=(str(tmp_path), act)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / audit.OLD).stat().st_size == audit.MOST_BYTES
    found = (tmp_path / audit.FILE).read_text().splitlines()
    assert {json.loads(line)["remote"] for line in found} == {"0", "1"}
