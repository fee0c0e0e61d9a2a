"""Do `check-config`, `hash-key` and `reload` say what an operator needs, and no secret?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.live.control.admin import Admin, AdminError
from scorpio.tenant_settings import key_line
from tests.server.keyed import ACME, slo_file

GOOD = slo_file(
    "weight = 3\nrate_tokens_per_s = 1000\nmost_tight = 4",
    top='default_class = "batch"\ntight_tpot_ms = 50',
)


def run(*words: str, stdin: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, words, input=stdin)
    return done.exit_code, done.stdout, done.stderr


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(GOOD)
    code, out, err = run("check-config", str(file))
    assert (code, err) == (0, "")
    for line in (
        "classes: 2, default batch, raw SLOs: any",
        "  interactive: ttft_ms 500, tpot_ms 50, on_miss reject, value 1",
        "tenants: 2",
        "API keys: 2 (every request needs one)",
        "  acme: keys 1, weight 3, rate_tokens_per_s 1000, most_tight 4",
    ):
        assert line in out.splitlines()
    assert "sha256:" not in out
    assert key_line(ACME)[7:] not in out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weight = 3", "wieght = 3", "tenants.acme.wieght: unknown; valid: keys, weight, classes"),
        ("weight = 3", 'weight = "3"', "tenants.acme.weight: Input should be a valid number"),
        ("weight = 3", 'classes = ["x"]', "'x' is not a class; valid: batch, interactive"),
        ('default_class = "batch"', 'defaultclass = "batch"', "unknown field 'defaultclass'"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(GOOD.replace(old, new))
    number = file.read_text().splitlines().index(new) + 1
    code, out, err = run("check-config", str(file))
    assert (code, out) == (1, "")
    assert err.startswith(f"scorpio: {file}: line {number}: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_fallback_is_checked_and_said_to_be_a_fleets(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text('[classes.chat]\nttft_ms = 500\nfallback = "m8"\nfallback_share = 0.2\n')
    code, out, err = run("check-config", str(file))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    fields = "ttft_ms 500, on_miss reject, value 1, fallback m8, fallback_share 0.2"
    assert f"  chat: {fields}" in lines
    assert (
        "  note: fallback of chat: no effect on one engine; the front of a fleet with"
        " --fallback-model goes by it"
    ) in lines


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("fallback_share = 0.2", "line 1: classes.chat: fallback_share: only with fallback"),
        ('fallback = "m8"\nfallback_share = 0', "line 3: classes.chat.fallback_share: Input shou"),
        ('fallback = "m8"\nfallback_share = 20', "line 3: classes.chat.fallback_share: Input sho"),
        ('fallback = "m8"\nfallback_share = "1"', "line 3: classes.chat.fallback_share: Input sh"),
        ("fallback = 8", "line 2: classes.chat.fallback: Input should be a valid string"),
        ('fallback = ""', "line 2: classes.chat.fallback: String should have at least 1 character"),
        ('falback = "m8"', "line 2: classes.chat.falback: unknown; valid: ttft_ms, tpot_ms"),
    ],
)
def test_a_wrong_fallback_is_told_with_its_line(tmp_path: Path, fields: str, said: str) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(f"[classes.chat]\n{fields}\n")
    code, out, err = run("check-config", str(file))
    assert (code, out) == (1, "")
    assert err.startswith(f"scorpio: {file}: {said}")


def test_no_vllm_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text(GOOD)
    program = (
        "import sys; sys.modules['vllm'] = None; sys.modules['torch'] = None;"
        "from scorpio.cli.app import app; app()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check-config", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_new_key_is_shown_once_and_its_line_is_its_hash() -> None:
    code, out, err = run("hash-key")
    key = err.strip().rpartition(" ")[2]
    assert code == 0
    assert key.startswith("sk-scorpio-")
    assert len(key) > 50
    assert out.strip() == f'"{key_line(key)}"'
    assert run("hash-key")[1] != out


def test_a_key_of_ones_own_comes_by_stdin() -> None:
    assert run("hash-key", "--stdin", stdin=f"{ACME}\n") == (0, f'"{key_line(ACME)}"\n', "")
    for bad in ("", "short\n", "x" * 19, "ÿ" * 30, "a b\x00" * 9):
        code, out, err = run("hash-key", "--stdin", stdin=bad)
        assert (code, out) == (2, "")
        assert "at least 20" in err


def test_reload_says_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {"changed": ["tenants"], "needs_restart": ["ledger_mib"]}
    asked: list[tuple[Admin, bool]] = []

    def reload(self: Admin, dry_run: bool = False) -> dict[str, Any]:
        asked.append((self, dry_run))
        return told

    monkeypatch.setattr(Admin, "reload", reload)
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    code, out, err = run("reload", "--url", "http://host:1/")
    assert (code, err) == (0, "")
    assert out == "changed: tenants\nin force after a restart: ledger_mib\n"
    assert asked == [(Admin("http://host:1", "sesame"), False)]
    assert run("reload", "--dry-run")[1].startswith("would change: tenants\n")
    assert asked[-1][1]
    told.clear()
    assert run("reload")[1] == "changed: nothing\n"


def test_reload_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCORPIO_ADMIN_TOKEN", raising=False)
    code, _, err = run("reload")
    assert (code, "SCORPIO_ADMIN_TOKEN is not set" in err) == (2, True)

    def reload(self: Admin, dry_run: bool = False) -> dict[str, Any]:
        raise AdminError("PUT /scorpio/config: HTTP 400: slo.toml: line 2")

    monkeypatch.setattr(Admin, "reload", reload)
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    code, _, err = run("reload")
    assert (code, "line 2" in err) == (1, True)


def test_a_server_that_cannot_try_a_file_is_not_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """To one of before, a trial is a reload."""
    asked: list[str] = []
    load: dict[str, Any] = {"state": "ok"}

    def call(self: Admin, method: str, path: str, body: object = None) -> dict[str, Any]:
        asked.append(f"{method} {path}")
        return load if path == "/scorpio/load" else {"changed": ["tenants"]}

    monkeypatch.setattr(Admin, "_call", call)
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")
    with pytest.raises(AdminError, match="older Scorpio"):
        Admin("http://host:1", "sesame").reload(dry_run=True)
    code, _, err = run("reload", "--dry-run")
    assert (code, "older Scorpio" in err) == (1, True)
    assert asked == ["GET /scorpio/load"] * 2
    load["terms"] = ""
    assert run("reload", "--dry-run")[1].startswith("would change: tenants\n")
    assert asked[-1] == "PUT /scorpio/config?dry_run=true"
