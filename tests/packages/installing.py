"""The documented example as an installed package, and packages gone wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "policies" / "write-your-own.md"
NAME = "short-first"
_FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def install_example(source: Path, target: Path) -> None:
    """The files of the page, built and installed by pip into a directory of their own."""
    files = dict(_FILE.findall(PAGE.read_text()))
    assert set(files) == {"pyproject.toml", "short_first.py"}
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    install += ["--no-index", "--quiet", "--target", str(target), str(source)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write_package(target: Path, package: str, policies: dict[str, str], code: str = "") -> None:
    """A package as pip leaves one: its module, and its entry points in a .dist-info."""
    info = target / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in policies.items()]
    (info / "entry_points.txt").write_text("[scorpio.policies]\n" + "".join(lines))
    (target / f"{package}.py").write_text(code)


def environment(*targets: Path) -> dict[str, str]:
    """Of a process that has these packages installed, and this checkout."""
    path = os.pathsep.join(map(str, [*targets, ROOT]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100"}


def python(*words: str, targets: tuple[Path, ...]) -> subprocess.CompletedProcess[str]:
    """`python WORDS` there."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(*targets),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
