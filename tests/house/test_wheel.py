"""Is it a package? The wheel in a venv of its own, used outside the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from pathlib import Path

import pytest

from scorpio.live.host.process import ServerProcess, free_port

ROOT = Path(__file__).parents[2]
_PURE = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a venv that holds the wheel and, by reference, what it depends on: not the checkout,
    whose own .pth file in the developer's venv is not followed from there."""
    root = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root), "."]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = root.glob("*.whl")
    venv.create(root / "venv")
    python = root / "venv" / "bin" / "python"
    inside = Path(_told(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    install = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python), "--offline"]
    done = subprocess.run(
        [*install, "--no-deps", str(wheel)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (inside / "dependencies.pth").write_text(f"{_PURE}\n")
    return python.parent


def _told(*command: object, cwd: Path | None = None) -> str:
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_it_is_the_wheel_that_is_imported(installed: Path, tmp_path: Path) -> None:
    program = "import scorpio, predictors, workloads; print(scorpio.__file__, workloads.__file__)"
    for path in _told(installed / "python", "-c", program, cwd=tmp_path).split():
        assert Path(path).is_relative_to(installed.parent), path


def test_the_command_and_its_versions(installed: Path, tmp_path: Path) -> None:
    assert "serve" in _told(installed / "scorpio", "--help", cwd=tmp_path)
    versions = _told(installed / "scorpio", "version", cwd=tmp_path)
    for name in ("scorpio", "vllm", "python"):
        assert re.search(rf"\b{name}[\w-]* \d+\.\d+", versions, re.IGNORECASE), versions


@pytest.mark.timeout(600)
def test_a_comparison_in_the_twin(installed: Path, tmp_path: Path) -> None:
    command = "compare --engine twin --gpu a100-llama-3.1-8b --trace azure-conv-synth --rows 0:40"
    words = [*command.split(), "--policy", "fcfs,scorpio", "--rate-scale", "1", "--out", "twin"]
    table = _told(installed / "scorpio", *words, cwd=tmp_path)
    assert "scorpio" in table
    runs = json.loads((tmp_path / "twin" / "summary.json").read_text())["runs"]
    assert [(run["policy"], run["sent"]) for run in runs] == [("fcfs", 40), ("scorpio", 40)]


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_it_serves(installed: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    words = ["serve", "tiny", "--run-dir", "run", "--host", "127.0.0.1", "--port", str(port)]
    # env(1) leaves the checkout out of the path, in whatever shell this runs
    start = ["env", "-u", "PYTHONPATH", "-C", str(tmp_path), str(installed / "scorpio")]
    with ServerProcess([*start, *words], url, tmp_path / "server.log") as server:
        server.wait_healthy(600.0)
        body = {"model": "tiny", "prompt": "a b c", "max_tokens": 3}
        request = urllib.request.Request(
            f"{url}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", "x-slo-ttft-ms": "60000"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 3
