"""Does set-up fail with one clear line, before it has touched anything?"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare_tree(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PYTHON": "python3.99"}, "python3.99 not found: install Python 3.11"),
        ({"SCORPIO_BUILD": "tpu"}, "SCORPIO_BUILD=tpu: cpu or gpu"),
        ({"PYTHON": "false"}, "vLLM needs Python 3.11 or later"),
    ],
)
def test_one_clear_line(bare_tree: Path, variables: dict[str, str], says: str) -> None:
    done = subprocess.run(
        ["bash", "deploy/dev/setup.sh"],
        cwd=bare_tree,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: FAILED: ")
    assert says in line
    assert not (bare_tree / ".venv").exists()
