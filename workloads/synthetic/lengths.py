"""How long are prompts and answers? Quantile knots per column, and a grid that ties them.

A length model is a piecewise log-linear quantile function: `tokens[i]` at probability `p[i]`. Two
knots at one length make an atom, which real logs are full of. Prompt and output are tied by their
ranks (a checkerboard copula), so each keeps its own distribution whatever the tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.traces.row import MAX_TOKENS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Grid = Sequence[Sequence[float]]
INDEPENDENT: Grid = ((1.0,),)


@dataclass(frozen=True, slots=True)
class LengthModel:
    """Quantile knots; lengths are multiplied by `scale`, then cut to [low, high]."""

    p: tuple[float, ...]
    tokens: tuple[float, ...]
    scale: float = 1.0
    low: int = 1
    high: int = MAX_TOKENS

    def __post_init__(self) -> None:
        p, tokens = np.array(self.p, dtype=float), np.array(self.tokens, dtype=float)
        if len(p) < 2 or len(p) != len(tokens) or p[0] != 0.0 or p[-1] != 1.0:
            raise WorkloadError("length knots: p and tokens of one length, p from 0 to 1")
        if not ((np.diff(p) >= 0).all() and (np.diff(tokens) >= 0).all() and tokens[0] > 0):
            raise WorkloadError("length knots: p and tokens must not decrease, tokens must be > 0")
        if not (self.scale > 0.0 and 1 <= self.low <= self.high <= MAX_TOKENS):
            raise WorkloadError(f"lengths: needs scale > 0 and 1 <= low <= high <= {MAX_TOKENS}")

    def quantile(self, u: FloatArray) -> IntArray:
        """Length in tokens at each probability."""
        raw = np.exp(np.interp(u, self.p, np.log(self.tokens))) * self.scale
        return np.asarray(np.clip(np.rint(raw), self.low, self.high), dtype=np.int64)


def sample_pairs(
    prompt: LengthModel, output: LengthModel, rank_grid: Grid, n: int, seed: int
) -> tuple[IntArray, IntArray]:
    """Draw `n` (prompt, output) lengths; the first k pairs are the same whatever `n` is.

    rank_grid: k rows of k weights. Row i says how the outputs of prompts in the i-th k-tile fall
    on the k-tiles of all outputs. ((1.0,),) is independence. Columns that add up to what rows do
    keep the distribution of outputs as it is.
    """
    grid = checked_grid(rank_grid)
    tiles = len(grid)
    u, v = (np.random.default_rng([seed, column]).random(n) for column in (0, 1))
    row = np.minimum((u * tiles).astype(np.int64), tiles - 1)
    cumulated = np.concatenate([np.zeros((tiles, 1)), np.cumsum(grid, axis=1)], axis=1)
    rank = np.empty(n)
    for i in range(tiles):  # inverse of the piecewise linear conditional distribution
        rank[row == i] = np.interp(v[row == i], cumulated[i], np.linspace(0.0, 1.0, tiles + 1))
    return prompt.quantile(u), output.quantile(rank)


def checked_grid(rank_grid: Grid) -> FloatArray:
    """Rows as probabilities. Raises WorkloadError unless it is square, finite and >= 0."""
    tiles = len(rank_grid)
    if tiles == 0 or any(len(row) != tiles for row in rank_grid):
        raise WorkloadError("rank_grid must be square")
    grid = np.array(rank_grid, dtype=np.float64)
    sums = grid.sum(axis=1, keepdims=True)
    if not (np.isfinite(grid).all() and (grid >= 0.0).all() and (sums > 0.0).all()):
        raise WorkloadError("rank_grid needs weights >= 0, and one > 0 in each row")
    return np.asarray(grid / sums)
