"""Is what `scorpio plan` cannot answer told before anything heavy is loaded?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
