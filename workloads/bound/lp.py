"""What is the least upper bound that this linear programme proves? Sparse rows and safe duals.

max c.x  s.t.  A x <= b,  E x = 0,  0 <= x <= u (all finite). For ANY y >= 0 and any z,
  c.x <= y.b + sum_j u_j * max(0, c_j - (A'y + E'z)_j)
for every feasible x (weak duality). So the bound that is reported does not rest on the solver
having converged, only on this sum; the solver merely suggests y and z.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Terms = Iterable[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class LpSolution:
    """value: proved upper bound. x: the primal point. row_prices: y, one per `at_most` row."""

    value: float
    x: Floats
    row_prices: Floats


class _Rows:
    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.right: list[float] = []

    def add(self, terms: Terms, right: float) -> int:
        row = len(self.right)
        for column, value in terms:
            self.row.append(row)
            self.column.append(column)
            self.value.append(value)
        self.right.append(right)
        return row

    def matrix(self, columns: int) -> csr_array:
        shape = (len(self.right), columns)
        return csr_array((self.value, (self.row, self.column)), shape=shape)


class LinearProgram:
    """Variables, rows, solve; rows can be added between two solves."""

    def __init__(self) -> None:
        self._gain: list[float] = []
        self._upper: list[float] = []
        self._at_most = _Rows()
        self._zero = _Rows()

    def variable(self, upper: float, gain: float = 0.0) -> int:
        """A column in [0, upper], `gain` in the objective. Returns its number."""
        if not 0.0 <= upper < math.inf:
            raise ValueError(f"a variable needs a finite upper bound >= 0, got {upper!r}")
        self._gain.append(gain)
        self._upper.append(upper)
        return len(self._upper) - 1

    def at_most(self, terms: Terms, right: float) -> int:
        """Row: sum of terms <= right. Returns its number."""
        return self._at_most.add(terms, right)

    def zero(self, terms: Terms) -> None:
        """Row: sum of terms = 0."""
        self._zero.add(terms, 0.0)

    def solve(self, time_limit_s: float) -> LpSolution | None:
        """None when there was no time to finish."""
        if time_limit_s <= 0.0:
            return None
        gain, upper, right = (
            np.asarray(v, dtype=np.float64) for v in (self._gain, self._upper, self._at_most.right)
        )
        rows, zero = self._at_most.matrix(len(gain)), self._zero.matrix(len(gain))
        solver: Any = linprog  # its stubs know neither sparse rows nor an array of bounds
        result = solver(
            -gain,
            A_ub=rows,
            b_ub=right,
            A_eq=zero,
            b_eq=np.zeros(zero.shape[0]),
            bounds=np.stack([np.zeros_like(upper), upper], axis=1),
            method="highs-ipm",
            options={"time_limit": max(time_limit_s, 0.01)},
        )
        if result.x is None or result.status != 0:
            return None
        prices: Floats = np.maximum(-result.ineqlin.marginals, 0.0)
        reduced: Floats = gain - rows.T @ prices + zero.T @ result.eqlin.marginals
        value = float(prices @ right + np.maximum(reduced, 0.0) @ upper)
        return LpSolution(value, np.asarray(result.x, dtype=np.float64), prices)
