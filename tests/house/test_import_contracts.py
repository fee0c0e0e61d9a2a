"""Do the import contracts bite? Each forbidden import, planted in a copy of the tree, is caught."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for package in ("scorpio", "predictors", "workloads"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_the_tree_keeps_every_contract(tree: Path) -> None:
    done = _lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("scorpio/core", "import time"),
        ("scorpio/core", "import predictors"),
        ("scorpio/core", "from scorpio import settings"),
        ("scorpio/models", "import vllm"),
        ("scorpio/server", "import vllm"),
        ("scorpio/server", "import workloads"),
        ("scorpio/engine", "import scorpio.server"),
        ("scorpio/engine", "import workloads"),
        ("scorpio/twin", "import scorpio.server"),
        ("scorpio/twin", "import vllm"),
        ("scorpio/twin", "import scorpio.cli"),
        ("scorpio/twin", "import scorpio.studies"),
        ("scorpio/studies", "import scorpio.live"),
        ("scorpio/core/policies/scorpio", "import scorpio.core.policies.rivals.fcfs"),
        ("scorpio/live", "import scorpio.engine"),
        ("scorpio/engine", "import predictors.latency.fit"),
        ("workloads", "import scorpio.engine"),
        ("workloads", "import predictors"),
        ("predictors", "import workloads"),
        ("predictors", "import lightgbm"),
        ("predictors/latency", "import torch"),
    ],
)
def test_a_forbidden_import_is_caught(tree: Path, package: str, line: str) -> None:
    planted = tree / package / "planted.py"
    planted.write_text(line + "\n")
    try:
        done = _lint(tree)
    finally:
        planted.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
