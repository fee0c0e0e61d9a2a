"""`compare --engine both` with a fake server: one load through both engines, and the verdict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from predictors.latency.artifact import ProfileFile, this_machine, write_profile
from scorpio.cli.app import app
from scorpio.core.latency import LatencyProfile, decode_from_step, prefill_from_step
from scorpio.live.control.admin import Admin
from scorpio.live.host.process import ServerProcess
from scorpio.live.host.server import LiveServer
from tests.live.fake_engine import TRUTH, FakeEngine, in_thread


def test_same_load_in_both_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []

    @contextlib.contextmanager
    def fake_server(
        _model: str, run_dir: Path, log_path: Path, vllm_args: Any = (), **_options: Any
    ) -> Iterator[LiveServer]:
        started.append(tuple(vllm_args))
        run_dir.mkdir(parents=True, exist_ok=True)
        with in_thread(FakeEngine(run_dir)) as url:
            process = ServerProcess(["true"], url, log_path)  # never started
            yield LiveServer(url, run_dir, Admin(url, "secret"), process, 1.0)

    monkeypatch.setattr("scorpio.live.compare.live_server", fake_server)
    # A busy machine is not what is asked about.
    monkeypatch.setattr("workloads.results.metrics.VOID_LATENESS_MS", 1e9)
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "config.json").write_text('{"vocab_size": 500}')
    profile = LatencyProfile(decode_from_step(TRUTH), prefill_from_step(TRUTH), TRUTH, "known")
    load = ["--trace", "cpu-demo", "--rows", "0:10", "--mix", "cpu", "--rate-scale", "10"]
    how = ["--policy", "fcfs,scorpio", "--repeats", "1", "--workers", "1", "--out", str(out)]
    where = ["--engine", "both", "--model", str(model)]
    measured: list[tuple[str, ...]] = []

    def fake_profile(_model: str, out: Path, vllm_args: Any = ()) -> None:
        measured.append(tuple(vllm_args))
        write_profile(out, ProfileFile(profile, "fake", this_machine(), "0.32.0", "today"))

    monkeypatch.setattr("scorpio.live.profile.run.profile_model", fake_profile)
    wrong = CliRunner().invoke(app, ["compare", *where, *load, *how, "--trace", "no-such-trace"])
    assert (wrong.exit_code, measured, started) == (2, [], [])
    result = CliRunner().invoke(app, ["compare", *where, *load, *how], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    verdict = json.loads((out / "fidelity.json").read_text())
    assert [row["policy"] for row in verdict["rows"]] == ["fcfs", "scorpio"]
    for row in verdict["rows"]:
        goods = [_good(out, engine, row["policy"]) for engine in ("live", "twin")]
        assert [10 * row["live"]["mean"], 10 * row["twin"]["mean"]] == pytest.approx(goods)
        assert row["error"] == pytest.approx((goods[1] - goods[0]) / 10)
    assert ("same order of policies" in result.stdout) == verdict["same_order"]
    assert measured == started  # the same flags
    assert "--max-num-seqs" in started[0]


def _good(out: Path, engine: str, policy: str) -> int:
    runs = json.loads((out / engine / "summary.json").read_text())["runs"]
    (run,) = (run for run in runs if run["policy"] == policy)
    assert run["sent"] == 10
    assert run["engine"] == engine
    return int(run["good"])
