"""Writes the table of docs/limits.md: `python -m tests.house.limits`."""

from __future__ import annotations

from pathlib import Path

from scorpio.engine.features import matrix
from scorpio.studies.marked_block import fill

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    fill(ROOT / "docs/limits.md", "matrix", matrix())
