"""`compare --engine twin`: what is told before vLLM is loaded, and what of runs that fail?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.twin.pool import Job
from scorpio.twin.run import TwinRun

TWIN = [
    *("compare", "--gpu", "a100-llama-3.1-8b", "--policy", "fcfs,scorpio", "--trace", "cpu-demo"),
    *("--rows", "0:20", "--workers", "1"),
]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--engine-option", "max_seqs=4"), "unknown engine option 'max_seqs'; valid: enable_"),
        (("--engine-option", "max_num_batched_tokens=9"), "is below max_num_seqs (256)"),
        (("--policy-option", "scorpio.patients=1"), "scorpio has no option patients; valid: "),
        (("--noise", "9"), "--noise: sigma must be in [0, 1]"),
        (("--retries", "-1"), "retries must be in [0, 100]"),
        (("--out", "FOREIGN"), "has a summary.json but no manifest.json"),
    ],
)
def test_what_is_wrong_is_told_before_vllm_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "summary.json").write_text("{}")
    words = [*TWIN, "--out", str(tmp_path / "out"), *arguments]
    words = [str(foreign) if word == "FOREIGN" else word for word in words]
    code = (
        "import sys\nfrom scorpio.cli.app import main\n"
        f"sys.argv = ['scorpio', *{words!r}]\n"
        "try:\n    main()\nfinally:\n    assert 'vllm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "AssertionError" in done.stderr) == (2, False)
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert [path.name for path in foreign.iterdir()] == ["summary.json"]


def test_a_real_engine_refuses_the_twin_s_options(tmp_path: Path) -> None:
    words = [*TWIN, "--engine", "live", "--noise", "0.1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "--engine-option, --policy-option, --noise" in done.stderr


def test_decisions_are_kept_and_explained(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*TWIN, "--log-decisions", "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    records = sorted(path.name for path in (out / "records").iterdir())
    assert sorted(path.name for path in (out / "decisions").iterdir()) == records
    told = CliRunner().invoke(app, ["explain", str(out), "17", "--policy", "scorpio"])
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith("request 17: ")
    assert "Policy: scorpio" in told.stdout
    without = CliRunner().invoke(app, [*TWIN, "--out", str(out)])
    assert (without.exit_code, "differs in log_decisions" in without.stderr) == (2, True)


def test_a_server_keeps_a_ledger_and_no_decision_log(tmp_path: Path) -> None:
    words = [*TWIN, "--engine", "live", "--log-decisions", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "a server keeps a ledger" in done.stderr) == (2, True)


def test_a_run_that_dies_is_exit_code_3_and_the_same_command_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Job.run

    def dies(self: Job) -> TwinRun:
        if self.policy == "fcfs":
            raise ValueError("no paper")
        return run(self)

    monkeypatch.setattr(Job, "run", dies)
    words = [*TWIN, "--retries", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3
    assert "FAILED fcfs at x1, seed 0: fcfs on cpu-demo" in done.stderr
    assert "1 of 2 runs failed" in done.stderr
    monkeypatch.setattr(Job, "run", run)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    rows = (tmp_path / "out/results.csv").read_text().splitlines()
    assert {row.split(",")[4] for row in rows[1:]} == {"fcfs", "scorpio"}
    other = CliRunner().invoke(app, [*words, "--noise", "none"])
    assert other.exit_code == 2
    assert "which differs in noise; name another directory" in other.stderr
