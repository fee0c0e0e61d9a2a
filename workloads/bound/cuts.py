"""How many steps must an interval hold if these requests are good? Cuts that integrality implies.

A request whose first token falls in u and whose last decode falls in U (an interval of buckets)
needs m steps in U, m = its decodes. So with X_i in {0, 1} saying that i is good and has its
first token early enough, late enough for that:  steps(U) >= max_i m_i X_i. Sorted so that
m_1 > m_2 > ... > m_k, this implies the star inequality of the mixing set (Guenluek and Pochet,
Math. Prog. 90, 2001)
  steps(U) >= sum_i (m_i - m_{i+1}) X_i,  m_{k+1} = 0:
if j is the first with X_j = 1, the right side is at most sum_{i >= j} (m_i - m_{i+1}) = m_j.
The programme without cuts knows only steps(U) >= m_i X_i one by one: it accepts two thirds of a
request that needs 30 steps/s for the 20 steps/s that all others pay. For a given interval
and point the most violated star takes every i whose X_i exceeds that of all longer requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.bound.lp import Floats
from workloads.bound.rows import Model

Ints = npt.NDArray[np.int64]
LONGEST_CUT_S = 40.0
_TINY = 1e-7


@dataclass(frozen=True, slots=True)
class Star:
    """One cut: the interval in seconds, and the requests (by number) by falling decodes."""

    begin_s: float
    end_s: float
    members: tuple[int, ...]
    violation: float = 0.0


def add(model: Model, star: Star) -> int:
    """Put the cut on the model's grid (any grid whose edges include its own). Returns the row."""
    bucket_s = model.grid.bucket_s
    u, v = round(star.begin_s / bucket_s), round(star.end_s / bucket_s) - 1
    terms = [(model.steps[b], -1.0) for b in range(u, min(v + 1, model.grid.buckets))]
    members = [w for i in star.members if (w := model.window.get(i)) is not None]
    heights = [w.demand.decodes for w in members] + [0]
    for w, height, below in zip(members, heights, heights[1:], strict=False):
        last = w.first_to if w.end <= v else min(w.first_to, v - w.reach)
        firsts = range(max(u, w.first_from), last + 1)
        columns = model.first[w.request]
        terms += [(columns[f - w.first_from], float(height - below)) for f in firsts]
    return model.lp.at_most(terms, 0.0)


class Separator:
    """Finds violated stars at a fractional point; everything about the grid is kept as arrays."""

    def __init__(self, model: Model, longest_s: float = LONGEST_CUT_S) -> None:
        self._grid, self._steps = model.grid, np.asarray(model.steps)
        windows = [w for w in model.window.values() if w.demand.decodes]
        windows.sort(key=lambda w: -w.demand.decodes)
        self._index = [w.request for w in windows]
        self._height: Ints = np.array([w.demand.decodes for w in windows], dtype=np.int64)
        self._from: Ints = np.array([w.first_from for w in windows], dtype=np.int64)
        self._to: Ints = np.array([w.first_to for w in windows], dtype=np.int64)
        self._reach: Ints = np.array([w.reach for w in windows], dtype=np.int64)
        self._end: Ints = np.array([w.end for w in windows], dtype=np.int64)
        self._columns = [np.asarray(model.first[i]) for i in self._index]
        self._width = max((len(c) for c in self._columns), default=0) + 1
        self._longest = max(1, round(longest_s / self._grid.bucket_s))

    def find(self, x: Floats, least: float) -> list[Star]:
        """Stars violated by more than `least` steps, the best one per interval."""
        steps = np.concatenate([[0.0], np.cumsum(x[self._steps])])
        started = np.zeros((len(self._index), self._width))  # first tokens before a bucket
        for row, columns in enumerate(self._columns):
            started[row, 1 : len(columns) + 1] = np.cumsum(np.maximum(x[columns], 0.0))
            started[row, len(columns) + 1 :] = started[row, len(columns)]
        stars: list[Star] = []
        for u in range(self._grid.buckets):
            stars += self._from_bucket(u, steps, started, least)
        return stars

    def _from_bucket(self, u: int, steps: Floats, started: Floats, least: float) -> list[Star]:
        stop = min(self._grid.buckets, u + self._longest)
        rows = np.nonzero((self._to >= u) & (self._from < stop))[0]
        if not len(rows):
            return []
        v: Ints = np.arange(u, stop)
        lo, hi = self._from[rows, None], self._to[rows, None]
        begin = np.maximum(lo, u)
        last = np.where(self._end[rows, None] <= v, hi, np.minimum(hi, v - self._reach[rows, None]))
        upto = np.take_along_axis(started[rows], np.clip(last - lo + 1, 0, self._width - 1), axis=1)
        inside = upto - np.take_along_axis(started[rows], begin - lo, axis=1)
        inside = np.where(last >= begin, inside, 0.0)
        best = np.maximum.accumulate(inside, axis=0)
        drop = self._height[rows] - np.append(self._height[rows][1:], 0)
        violation = drop @ best - (steps[v + 1] - steps[u])
        return [
            Star(
                u * self._grid.bucket_s,
                float(v[k] + 1) * self._grid.bucket_s,
                self._members(rows, inside[:, k]),
                float(violation[k]),
            )
            for k in np.nonzero(violation > least)[0]
        ]

    def _members(self, rows: npt.NDArray[np.intp], inside: Floats) -> tuple[int, ...]:
        chosen: list[int] = []
        most, height = _TINY, -1
        for row, amount in zip(rows.tolist(), inside.tolist(), strict=True):
            if amount > most + _TINY:
                if self._height[row] == height:  # equal heights: only the larger X counts
                    chosen.pop()
                chosen.append(self._index[row])
                most, height = amount, int(self._height[row])
        return tuple(chosen)
