"""How long were the answers to requests like this one lately? Log-spaced counts that fade."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import numpy as np

from predictors.length.quantiles import LEVELS, MAX_TOKENS
from scorpio.core.arrays import FloatArray

BINS_PER_OCTAVE: Final = 4
BINS: Final = 20 * BINS_PER_OCTAVE + 1
_EDGES_Z = np.log(2.0 ** (np.arange(BINS + 1) / BINS_PER_OCTAVE))  # of 1 + tokens
_LEVELS = np.array(LEVELS)
Key = tuple[str, str, int]  # (model, tenant, hash of the template)


class LengthHistogram:
    """Counts of answer lengths; each new one weighs 1, one of `half_life` answers ago 1/2.

    Bins are a quarter of an octave wide, so a quantile is off by at most 19 %.
    """

    __slots__ = ("_counts", "_keep", "_quantiles_z")

    def __init__(self, half_life: float = 2000.0) -> None:
        if not (math.isfinite(half_life) and half_life >= 1.0):
            raise ValueError("half_life must be >= 1 answers")
        self._keep = 0.5 ** (1.0 / half_life)
        self._counts = np.zeros(BINS)
        self._quantiles_z: FloatArray | None = None

    @property
    def weight(self) -> float:
        """Faded number of answers seen."""
        return float(self._counts.sum())

    def add(self, tokens: int) -> None:
        """One finished answer; a length out of range counts as the nearest one in range."""
        z = math.log2(1 + min(max(tokens, 0), MAX_TOKENS))
        self._counts *= self._keep
        self._counts[min(int(z * BINS_PER_OCTAVE), BINS - 1)] += 1.0
        self._quantiles_z = None

    def quantiles_z(self) -> FloatArray | None:
        """log(1 + tokens) at LEVELS, or None when nothing was seen."""
        if self._quantiles_z is None and self._counts.any():
            sums = np.concatenate(([0.0], np.cumsum(self._counts)))
            self._quantiles_z = np.interp(_LEVELS * sums[-1], sums, _EDGES_Z)
        return self._quantiles_z


class HistogramTable:
    """A histogram per key, for the `max_keys` keys used last, and one over everything."""

    def __init__(self, max_keys: int = 1024, half_life: float = 2000.0) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be >= 1")
        self.everything = LengthHistogram(half_life)
        self.evicted = 0
        self._max_keys, self._half_life = max_keys, half_life
        self._by_key: OrderedDict[Key, LengthHistogram] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: Key, tokens: int) -> None:
        """One finished answer of this key."""
        self.everything.add(tokens)
        histogram = self._by_key.get(key)
        if histogram is None:
            if len(self._by_key) >= self._max_keys:
                self._by_key.popitem(last=False)
                self.evicted += 1
            histogram = self._by_key[key] = LengthHistogram(self._half_life)
        self._by_key.move_to_end(key)
        histogram.add(tokens)

    def get(self, key: Key) -> LengthHistogram | None:
        """The histogram of a key; looking does not keep it from being evicted."""
        return self._by_key.get(key)
