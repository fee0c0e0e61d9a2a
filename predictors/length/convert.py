"""What arrays hold the same trees as these LightGBM models? Runs in a child process.

Command: python -m predictors.length.convert OUT.npz MODEL.txt [MODEL.txt ...]
LightGBM's loader can end the process or never return on a damaged file: the parent sets a time
limit and reads the arrays back through the checks of `trees`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.length.trees import ARRAYS

TIME_LIMIT_S = 120.0


class ConversionFailed(RuntimeError):
    """The child gave no arrays; the message holds its last line."""


class _Table:
    """Nodes of all trees, parents before children."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, int, int, float]] = []
        self.roots: list[int] = []

    def add_tree(self, root: dict[str, Any]) -> None:
        self.roots.append(len(self.rows))
        self._add(root)

    def _add(self, node: dict[str, Any]) -> int:
        at = len(self.rows)
        if "split_feature" not in node:
            self.rows.append((0, 0.0, at, at, float(node["leaf_value"])))
            return at
        if node["decision_type"] != "<=" or node["missing_type"] != "None":
            raise ConversionFailed("only numeric splits without missing values can be converted")
        self.rows.append((0, 0.0, 0, 0, 0.0))
        left, right = self._add(node["left_child"]), self._add(node["right_child"])
        threshold = float(node["threshold"])
        self.rows[at] = (int(node["split_feature"]), threshold, left, right, 0.0)
        return at

    def arrays(self) -> dict[str, NDArray[Any]]:
        feature, threshold, left, right, value = zip(*self.rows, strict=True)
        columns: dict[str, NDArray[Any]] = {
            "roots": np.array(self.roots, dtype=np.int32),
            "feature": np.array(feature, dtype=np.int32),
            "threshold": np.array(threshold, dtype=np.float64),
            "left": np.array(left, dtype=np.int32),
            "right": np.array(right, dtype=np.int32),
            "value": np.array(value, dtype=np.float64),
        }
        return {name: columns[name] for name in ARRAYS}


def _convert(out: Path, model_files: Sequence[str]) -> None:
    import lightgbm

    dumps = [lightgbm.Booster(model_file=name).dump_model()["tree_info"] for name in model_files]
    longest = max(len(trees) for trees in dumps)
    table = _Table()
    for trees in dumps:
        for tree in trees:
            table.add_tree(tree["tree_structure"])
        for _ in range(longest - len(trees)):  # every output gets as many trees
            table.add_tree({"leaf_value": 0.0})
    arrays: dict[str, Any] = table.arrays()
    np.savez(out, **arrays)


def convert(texts: Sequence[str], directory: Path) -> dict[str, NDArray[Any]]:
    """Arrays of the models' trees, made by a child process in a scratch directory."""
    files = []
    for i, text in enumerate(texts):
        files.append(directory / f"model-{i}.txt")
        files[-1].write_text(text)
    out = directory / "trees.npz"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "predictors.length.convert", out, *files],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
            cwd=Path(__file__).parents[2],
        )
    except subprocess.TimeoutExpired:
        raise ConversionFailed(f"LightGBM did not return within {TIME_LIMIT_S:g} s") from None
    if done.returncode or not out.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConversionFailed(f"the converting process ended with {done.returncode}: {last}")
    with np.load(out, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ARRAYS}


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), sys.argv[2:])
