"""Does a run that went wrong say so? On the screen, in the files, and by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from tests.live.fake_engine import FakeEngine, in_thread

LOAD = ("--trace", "cpu-demo", "--rows", "0:6", "--mix", "cpu", "--rate-scale", "20")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not what is asked about."""
    monkeypatch.setattr("workloads.results.metrics.VOID_LATENESS_MS", 1e9)


def replay(url: str, out: Path, *more: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["replay", "--url", url, *LOAD, "--out", str(out), *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_run_in_which_all_failed(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path)
    fake.broken = True
    with in_thread(fake) as url:
        code, stdout, stderr = replay(url, tmp_path / "out")
    assert code == 3
    assert "failed" in stdout
    assert "100.0" in stdout
    assert "6 of 6 requests; the commonest error: HTTP 500: engine dead (6x)" in stderr
    assert stderr.splitlines()[-1].startswith("scorpio: 6 of 6 requests failed")
    run = json.loads((tmp_path / "out" / "summary.json").read_text())["runs"][0]
    assert (run["failed"], run["failed_by_error"]) == (6, {"HTTP 500: engine dead": 6})
    page = (tmp_path / "out" / "report.html").read_text()
    assert "HTTP 500: engine dead (6x)" in page
    assert "failed %" in page


def test_all_answered_shows_no_such_column(tmp_path: Path) -> None:
    with in_thread(FakeEngine(tmp_path)) as url:
        code, stdout, stderr = replay(url, tmp_path / "out")
    assert code == 0
    assert "failed" not in stdout
    assert "FAILED" not in stderr


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "line\nbreak", "schlüssel"])
def test_a_key_that_is_none_is_said_before_anything_is_sent(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("SOME_KEY", key)
    fake = FakeEngine(tmp_path)
    with in_thread(fake) as url:
        code, _, stderr = replay(url, tmp_path / "out", "--api-key-env", "SOME_KEY")
    assert code == 2
    assert "SOME_KEY" in stderr
    assert not (key or "").strip() or (key or "") not in stderr
    assert not fake.requests
    assert not (tmp_path / "out").exists()
