"""Which replica keeps this promise at the least cost to the others? The router `promises`.

1. Replicas have sides (`sides.py`): the tightest TPOT SLO that may shorten their steps. A request
   belongs to the side with the loosest one that is not looser than its own.
2. There it goes where the work that waits would be done first.
"""

from __future__ import annotations

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.demand import Demand
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.forecast import drain_s
from scorpio.core.routing.load import RoutedRequest
from scorpio.core.routing.sides import best_split, floors

FIRST_S, EVERY_S = 0.1, 2.0  # between two looks at the split
FAR_S = 1e6


class Promises:
    """State: what comes, and the split that follows from it."""

    def __init__(self, view: FleetView) -> None:
        self._demand = Demand()
        self._split: list[int] = []
        self._floor_s = np.zeros(len(view))
        self._next_s = -np.inf
        self._first_s: float | None = None
        self._alive = view.alive.copy()

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        """[N]: when the work there would be done; a replica of another side is the last resort."""
        new = view.new_tokens(request)
        self._demand.note(now_s, request.slo.tpot_s, view.work_s(request, float(new.min())))
        if now_s >= self._next_s or not np.array_equal(self._alive, view.alive):
            self._choose_sides(view, now_s)
        fits = self._floor_s <= request.slo.tpot_s
        own = self._floor_s == self._floor_s[fits].max(initial=0.0)
        costs: FloatArray = drain_s(view, request, new) + np.where(own, 0.0, FAR_S)
        return costs

    def _choose_sides(self, view: FleetView, now_s: float) -> None:
        if self._first_s is None:
            self._first_s = now_s
        wait_s = min(max(now_s - self._first_s, FIRST_S), EVERY_S)  # sooner while little is known
        self._next_s, self._alive = now_s + wait_s, view.alive.copy()
        levels, self._split = best_split(view, self._demand.levels(now_s), self._split)
        self._floor_s = floors(levels, self._split, view)
