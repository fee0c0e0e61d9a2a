"""How long may the answer still get? Calibrated quantiles and Q(L | L > n) of one answer length L.

Everything is done on z = log(1 + tokens). Between the quantiles the distribution is linear in z;
above the last one it has a Pareto tail, so it never ends: however far a request outlives its
prediction, what it has left stays defined, and grows with what it has produced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from scorpio.core.arrays import FloatArray

LEVELS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
MAX_TOKENS: Final = 1 << 20
MAX_Z: Final = math.log1p(MAX_TOKENS)
FEWEST_OF_GROUP: Final = 50
_MEDIAN: Final = LEVELS.index(0.5)
_P = np.array([0.0, *LEVELS])
_TAIL = 1.0 - LEVELS[-1]
_MEAN_POINTS = (np.arange(40) + 0.5) / 40
# the same points without interpolating again for every request: z = _MEAN_OF @ (knots, 1 / tail)
_BODY = np.stack([np.interp(1.0 - _MEAN_POINTS, _P, row) for row in np.eye(len(_P))], axis=1)
_BEYOND = np.log(_TAIL / np.minimum(_MEAN_POINTS, _TAIL))  # 0 below the tail
_MEAN_OF = np.concatenate((_BODY, _BEYOND[:, None]), axis=1)
_LOG_LAST = math.log((1.0 - LEVELS[-2]) / _TAIL)  # between the last two levels
_STEEPEST, _FLATTEST = 8.0, 1.2  # of the tail; a flatter one would have no mean
_GAP = 1e-9  # keeps the inverse defined where quantiles coincide


def monotone(z: FloatArray) -> FloatArray:
    """Quantiles in order and in range, [..., Q]; NaN counts as the longest.

    Sorting never makes the pinball loss worse.
    """
    return np.sort(np.fmax(np.fmin(z, MAX_Z), 0.0), axis=-1)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Conformal offsets per group of predicted median and level; edges [G-1], offsets [G, Q]."""

    edges: FloatArray
    offsets: FloatArray

    def __post_init__(self) -> None:
        if self.offsets.shape != (len(self.edges) + 1, len(LEVELS)) or self.edges.ndim != 1:
            raise ValueError("offsets must be [groups, levels] and edges [groups - 1]")
        if not (np.all(np.isfinite(self.edges)) and np.all(np.isfinite(self.offsets))):
            raise ValueError("edges and offsets must be finite")
        if np.any(np.diff(self.edges) < 0) or np.any(np.abs(self.offsets) > MAX_Z):
            raise ValueError("edges must ascend and offsets lie within the range of z")

    def apply(self, z: FloatArray) -> FloatArray:
        """Calibrated quantiles for raw ones, [N, Q]."""
        group = self.edges.searchsorted(z[:, _MEDIAN], side="right")
        return monotone(z + self.offsets[group])


def conformal(raw_z: FloatArray, truth_z: FloatArray, groups: int) -> Calibration:
    """Offsets that make P(L <= quantile) >= its level in each group, for exchangeable requests."""
    median = raw_z[:, _MEDIAN]
    edges = np.zeros(0)
    if len(median) >= groups * FEWEST_OF_GROUP:  # else one group
        edges = np.quantile(median, np.arange(1, groups) / groups).astype(np.float64)
    group = np.searchsorted(edges, median, side="right")
    offsets = np.zeros((len(edges) + 1, len(LEVELS)))
    for g in range(len(edges) + 1):
        rest = np.sort(truth_z[group == g, None] - raw_z[group == g], axis=0)
        n = len(rest)
        for column, level in enumerate(LEVELS):
            rank = min(math.ceil((n + 1) * level), n)  # the finite-sample quantile
            offsets[g, column] = rest[rank - 1, column] if n else 0.0
    return Calibration(edges, np.clip(offsets, -MAX_Z, MAX_Z))


@dataclass(frozen=True, slots=True)
class LengthDistribution:
    """Distribution of one answer length, cut at max_tokens; z_knots belong to levels 0, *LEVELS."""

    z_knots: FloatArray
    tail: float
    max_tokens: int

    @classmethod
    def from_quantiles(cls, z: FloatArray, max_tokens: int = MAX_TOKENS) -> LengthDistribution:
        """From log quantiles at LEVELS, in any order."""
        # seven numbers: plain Python is several times faster than numpy here
        ordered = sorted(MAX_Z if v != v else min(max(v, 0.0), MAX_Z) for v in z.tolist())
        knots = [max(0.0, 2 * ordered[0] - ordered[1]), *ordered]
        knots = [knot + i * _GAP for i, knot in enumerate(knots)]
        tail = _LOG_LAST / (knots[-1] - knots[-2])
        cap = max_tokens if 0 < max_tokens < MAX_TOKENS else MAX_TOKENS
        return cls(np.array(knots), min(max(tail, _FLATTEST), _STEEPEST), cap)

    def levels_tokens(self) -> tuple[float, ...]:
        """Tokens at LEVELS, cut at max_tokens."""
        return tuple(min(math.expm1(z), self.max_tokens) for z in self.z_knots[1:].tolist())

    def survival(self, tokens: float) -> float:
        """P(L > tokens) before the cut; 1 below the shortest, never 0."""
        z = math.log1p(min(max(tokens, 0.0), MAX_TOKENS))
        last = float(self.z_knots[-1])
        if z > last:
            return _TAIL * math.exp(-self.tail * (z - last))
        return 1.0 - float(np.interp(z, self.z_knots, _P))

    def _at_survival(self, left: FloatArray) -> FloatArray:
        """Tokens that are outlived with probability `left`, cut at max_tokens."""
        beyond = np.log(_TAIL / np.clip(left, 1e-300, _TAIL)) / self.tail
        z = np.where(left < _TAIL, self.z_knots[-1] + beyond, np.interp(1 - left, _P, self.z_knots))
        tokens: FloatArray = np.expm1(np.minimum(z, MAX_Z))
        return np.minimum(tokens, self.max_tokens)

    def quantile(self, level: float, outlived_tokens: float = -1.0) -> float:
        """Q(level) of L given L > outlived_tokens; more than that, unless cut at max_tokens."""
        if outlived_tokens < 0.0:
            return float(self._at_survival(np.array([1.0 - level]))[0])
        left = (1.0 - level) * self.survival(outlived_tokens)
        tokens = float(self._at_survival(np.array([left]))[0])
        return min(max(tokens, math.floor(outlived_tokens) + 1.0), float(self.max_tokens))

    def mean(self, outlived_tokens: float = -1.0) -> float:
        """Mean of L, cut at max_tokens, given L > outlived_tokens."""
        if outlived_tokens < 0.0:
            z = _MEAN_OF @ np.array([*self.z_knots.tolist(), 1.0 / self.tail])
            cut = np.minimum(z, math.log1p(self.max_tokens))
            return min(float(np.expm1(cut).sum()) / len(z), float(self.max_tokens))
        tokens = self._at_survival(_MEAN_POINTS * self.survival(outlived_tokens))
        tokens = np.maximum(tokens, math.floor(outlived_tokens) + 1.0)
        return float(np.mean(np.minimum(tokens, self.max_tokens)))
