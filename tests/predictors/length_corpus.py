"""Which known truth do the length tests learn? Made-up forests, arrays and a corpus, all seeded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.length.model import BUCKETS, ROW_LENGTH, SCORES
from predictors.length.quantiles import LEVELS

Arrays = dict[str, NDArray[Any]]
# the answer's typical length hangs on the verb; a predictor that reads can learn it
TYPICAL_TOKENS = {"summarise": 40, "translate": 80, "explain": 250, "write": 600, "count": 8}
_THINGS = [
    "river",
    "engine",
    "poem",
    "market",
    "theorem",
    "garden",
    "violin",
    "protocol",
    "island",
    "recipe",
]


def random_forest(rng: np.random.Generator, trees: int, features: int, depth: int) -> Arrays:
    """A forest that `checked_ensemble` accepts."""
    rows: list[list[float]] = []
    roots = []

    def grow(left_depth: int) -> int:
        at = len(rows)
        if left_depth == 0 or rng.random() < 0.25:
            rows.append([0, 0.0, at, at, rng.normal()])
            return at
        rows.append([int(rng.integers(features)), rng.normal(), 0, 0, 0.0])
        rows[at][2] = grow(left_depth - 1)
        rows[at][3] = grow(left_depth - 1)
        return at

    for _ in range(trees):
        roots.append(grow(depth))
    feature, threshold, left, right, value = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    whole = {"roots": np.array(roots), "feature": feature, "left": left, "right": right}
    arrays: Arrays = {name: column.astype(np.int32) for name, column in whole.items()}
    return arrays | {"threshold": threshold.astype(float), "value": value.astype(float)}


def model_arrays(seed: int = 0) -> Arrays:
    """A small complete model."""
    rng = np.random.default_rng(seed)
    return random_forest(rng, 3 * len(LEVELS), ROW_LENGTH, 4) | {
        "table": rng.normal(size=(BUCKETS, 1 + SCORES)).astype(np.float32),
        "intercept": rng.normal(size=SCORES),
        "edges": np.array([1.0, 2.0]),
        "offsets": np.sort(rng.normal(size=(3, len(LEVELS))), axis=1),
    }


def write_corpus(path: Path, rows: int, seed: int = 0, stretch: float = 1.0) -> None:
    """Prompts whose answers are lognormal around their verb's typical length."""
    rng = np.random.default_rng(seed)
    verbs = sorted(TYPICAL_TOKENS)
    with path.open("w") as file:
        for i in range(rows):
            verb = verbs[rng.integers(len(verbs))]
            words = [_THINGS[k] for k in rng.integers(len(_THINGS), size=6)]
            length = TYPICAL_TOKENS[verb] * stretch * rng.lognormal(0.0, 0.4)
            record = {
                "prompt": f"Please {verb} number {i}: {' '.join(words)}.",
                "prompt_tokens": 12,
                "response_tokens": max(1, round(length)),
                "conversation": f"c{i // 2}",
                "model": "made-up",
            }
            file.write(json.dumps(record) + "\n")
