"""Is what `scorpio plan` cannot answer told before anything heavy is loaded?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.cli.plan_autoscale import _day
from scorpio.twin.fleet.coarse import CoarseRun

PLAN = ["plan", "--trace", "cpu-demo", "--gpu", "a100-llama-3.1-8b", "--mix", "product"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--target", "chart=90"), "unknown class 'chart'; valid: agent, all, batch, chat, doc"),
        (("--rows", "0:20"), "target of all: 20 requests are too few for 95 %"),
        (("--what", "tpot=40"), "what 'tpot=40' must be OBJECTIVE.CLASS=MS"),
        (("--what", "tpot.chart=40"), "unknown class 'chart'; valid: agent, batch, chat, doc"),
        (("--draws", "0"), "draws must be >= 1, got 0"),
        (("--clients", "-8"), "--retries, --give-up-s, --clients: clients must be >= 0, got -8"),
        (("--retries", "-1"), "--retries, --give-up-s, --clients: retries must be in [0, 100]"),
        (("--noise", "9"), "--noise: sigma must be in [0, 1]"),
        (("--engine-option", "max_seqs=4"), "unknown engine option 'max_seqs'; valid: enable_"),
        (("--policy-option", "sjf.x=4"), "--policy-option sjf.x=4: say POLICY.NAME=NUMBER, with"),
    ],
)
def test_in_one_line(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    """In a process of its own: no module of vLLM is there when it ends."""
    arguments = [*PLAN, "--out", str(tmp_path / "out"), *words]
    code = (
        "import sys\nfrom scorpio.cli.app import main\n"
        f"sys.argv = ['scorpio', *{arguments!r}]\n"
        "try:\n    main()\nfinally:\n    assert 'vllm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"scorpio: {reason}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


RATES = "client,window_start_s,rate_rps\na,0,1\na,600,2\n"
AUTOSCALE = ["plan", "--autoscale", "--gpu", "a100-llama-3.1-8b", "--trace"]


@pytest.mark.parametrize(
    ("content", "words", "reason"),
    [
        ("client,window_start_s,rate_rps\na,0,1\na,600,x\n", (), "{file}, line 3: rate_rps: 'x'"),
        ("client,window_start_s,rate_rps\n", (), "{file}, line 2: no windows"),
        (RATES, ("--target", "chat=95"), "--target chat=95: with --autoscale a share of all, in %"),
        (RATES, ("--target", "0.97"), "--autoscale: target must be in [0.5, 1), got 0.0097"),
        (RATES, ("--warm-up-s", "-1"), "--autoscale: warm_up_s must be in"),
        (RATES, ("--min-replicas", "9", "--max-replicas", "4"), "--autoscale: min_replicas and"),
        (RATES, ("--mix", "nine"), "unknown mix 'nine'; valid: "),
        (RATES, ("--client-tokens", "none.json"), "none.json: FileNotFoundError"),
        (RATES, ("--rate-scale", "0"), "rate scale '0' is not valid"),
        (RATES, ("--rate-scale", "1,2"), "--rate-scale 1,2: one, with --autoscale"),
        (RATES, ("--seed", "1,2"), "--seed 1,2: one, with --autoscale"),
        (RATES, ("--warm-up-s", "86400"), "--autoscale: horizon_s must be in"),
        (RATES, ("--rows", "0:9"), "--rows, --time-unit, --block-tokens, --spread-tick-s, --map: "),
        (RATES, ("--map", "arrival=t"), "--rows, --time-unit, --block-tokens, --spread-tick-s, "),
        (
            RATES,
            ("--policy", "fcfs", "--draws", "5", "--retries", "0"),
            "--policy, --draws, --retries: not with --autoscale",
        ),
    ],
)
def test_what_autoscale_cannot_read_is_one_line(
    tmp_path: Path, content: str, words: tuple[str, ...], reason: str
) -> None:

    file, out = tmp_path / "rates.csv", tmp_path / "out"
    file.write_text(content)
    result = CliRunner().invoke(app, [*AUTOSCALE, str(file), "--out", str(out), *words])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("scorpio: " + reason.format(file=file)), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "words", [("--client-tokens", "x"), ("--warm-up-s", "100"), ("--min-replicas", "1")]
)
def test_words_of_autoscale_are_for_it_alone(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*PLAN, *words])
    assert result.exit_code == 2
    assert result.stderr == f"scorpio: {words[0]}: only with --autoscale\n"


def test_hours_are_those_of_the_file() -> None:
    run = CoarseRun(np.ones(8640), np.ones(8640), np.ones(8640))
    hours = [row["from_s"] / 3600 for row in _day(run, 143_400.0)]
    assert hours[:2] == pytest.approx([15 + 5 / 6, 16 + 5 / 6])
    assert hours[-1] == pytest.approx(14 + 5 / 6)
    assert len(hours) == 24
