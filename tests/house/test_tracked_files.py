"""Does the tree name a directory of the machine it was written on?"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PLACES = ("scorpio", "predictors", "workloads", "tests", "deploy", "docs", ".ci")
_FILES = ("pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md")
_TEXT = {".py", ".md", ".sh", ".toml", ".txt", ".json", ".yaml", ".yml", ""}
_MACHINE = re.compile(r"/" + r"work/|/root/|/home/[a-z]")


def test_no_path_of_one_machine() -> None:
    paths = [path for place in _PLACES for path in (ROOT / place).rglob("*") if path.is_file()]
    paths += [ROOT / name for name in _FILES if (ROOT / name).is_file()]
    # __pycache__ is never tracked
    texts = [
        p
        for p in paths
        if p.suffix in _TEXT and "__pycache__" not in p.parts and p != Path(__file__)
    ]
    named = [
        str(p.relative_to(ROOT)) for p in texts if _MACHINE.search(p.read_text(errors="replace"))
    ]
    assert named == []
