"""Do demo, profile and replay do all their acts in order? With a fake engine behind real HTTP."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predictors.latency.artifact import ProfileFile, read_profile, this_machine, write_profile
from scorpio.cli.app import app
from scorpio.core.latency import LatencyProfile, decode_from_step, prefill_from_step
from scorpio.live.control.admin import Admin
from scorpio.live.demo import POLICIES
from scorpio.live.host.process import ServerProcess
from scorpio.live.host.server import LiveServer
from scorpio.live.profile.run import default_profile_path
from tests.live.fake_engine import TRUTH, FakeEngine, in_thread

PROFILE = LatencyProfile(decode_from_step(TRUTH), prefill_from_step(TRUTH), TRUTH, "known")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine voids no run here: exit codes are about the commands."""
    monkeypatch.setattr("workloads.results.metrics.VOID_LATENESS_MS", 1e9)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory, and a cache of our own."""
    monkeypatch.setenv("SCORPIO_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text('{"vocab_size": 500}')
    return directory


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every `live_server` is a fake one; what it was started with is noted here."""
    calls: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def fake_server(
        model: str, run_dir: Path, log_path: Path, vllm_args: Any = (), **options: Any
    ) -> Iterator[LiveServer]:
        calls.append({"model": model, "vllm_args": vllm_args, **options})
        run_dir.mkdir(parents=True, exist_ok=True)
        with in_thread(FakeEngine(run_dir)) as url:
            process = ServerProcess(["true"], url, log_path)  # never started
            yield LiveServer(url, run_dir, Admin(url, "secret"), process, 1.0)

    monkeypatch.setattr("scorpio.live.compare.live_server", fake_server)
    monkeypatch.setattr("scorpio.live.profile.run.live_server", fake_server)
    return calls


def run(*arguments: str) -> tuple[str, str]:
    """(stdout, stderr) of a command that must succeed."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout, result.stderr


def test_demo_with_a_cached_profile(
    model: Path, tmp_path: Path, started: list[dict[str, Any]]
) -> None:
    cached = default_profile_path(str(model))
    write_profile(cached, ProfileFile(PROFILE, "fake", this_machine(), "0.32.0", "today"))
    out = tmp_path / "demo"
    load = ("--overload", "20", "--window-s", "5")
    stdout, stderr = run("demo", "--model", str(model), "--out", str(out), *load)
    assert len(started) == 1, "a cached profile needs no server of its own"
    assert started[0]["latency"] == cached
    summary = json.loads((out / "summary.json").read_text())
    assert [r["policy"] for r in summary["runs"]] == list(POLICIES)
    assert all(r["sent"] == r["admitted"] > 0 == r["failed"] for r in summary["runs"])
    assert (out / "report.html").exists()
    assert "fcfs" in stdout
    assert "requests/s of this mix" in stderr
    assert "the same load again: scorpio compare --engine live" in stderr
    trace = str(out / "cpu-demo.toml")
    again = ("--trace", trace, "--mix", "cpu", "--policy", "fcfs", "--repeats", "1")
    run("compare", "--engine", "live", "--model", str(model), *again, "--out", str(tmp_path / "2"))
    runs = json.loads((tmp_path / "2" / "summary.json").read_text())["runs"]
    assert runs[0]["offered_rps"] == summary["runs"][0]["offered_rps"]
    assert len(started) == 2


def test_profile_starts_its_own_server(
    model: Path, tmp_path: Path, started: list[dict[str, Any]]
) -> None:
    out = tmp_path / "latency.json"
    short = ("--budget-s", "120", "--exam-s", "3")
    _, stderr = run("profile", "--model", str(model), "--out", str(out), *short)
    assert len(started) == 1
    assert read_profile(out).profile.step.base_s == pytest.approx(TRUTH.base_s, rel=0.05)
    assert "step time error, held out" in stderr
    assert "step time error, exam" in stderr
    assert f"wrote {out}" in stderr


def test_profile_of_a_running_server(tmp_path: Path) -> None:
    out, run_dir = tmp_path / "latency.json", tmp_path / "run"
    run_dir.mkdir()
    with in_thread(FakeEngine(run_dir)) as url:
        where = ("--url", url, "--run-dir", str(run_dir))
        run("profile", *where, "--out", str(out), "--budget-s", "120", "--exam-s", "3")
    assert read_profile(out).vllm == "0.32.0"


def test_replay_any_server(tmp_path: Path) -> None:
    out = tmp_path / "replay"
    fake = FakeEngine(tmp_path)
    with in_thread(fake) as url:
        load = ("--trace", "cpu-demo", "--rows", "0:12", "--mix", "cpu", "--rate-scale", "20")
        stdout, _ = run("replay", "--url", f"{url}/v1", *load, "--out", str(out))
    summary = json.loads((out / "summary.json").read_text())["runs"][0]
    assert (summary["sent"], summary["admitted"], summary["failed"]) == (12, 12, 0)
    assert summary["policy"] == "scorpio-paper", "the server says what it runs"
    assert json.loads((out / "bench.json").read_text())["completed"] == 12
    assert (out / "report.html").exists()
    assert "scorpio-paper" in stdout
    assert not list(out.glob("running*"))
    assert len({tuple(r["prompt"]) for r in fake.requests}) == 12
