"""Which replica gets this request? A router: what it believes of the fleet, and a way to rank.

A ranking gives each replica a cost, [N]; the cheapest that is alive gets the request. Equal costs
are shared out evenly.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import Replica, ReplicaLoad, RoutedRequest


class Ranking(Protocol):
    """`costs` is asked once for each request; inf = not there if there is any other."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        """[N], lower is better."""


class Router:
    """One fleet, one way to rank."""

    def __init__(self, view: FleetView, ranking: Ranking) -> None:
        self.view, self._ranking = view, ranking

    def choose(
        self, request: RoutedRequest, now_s: float, not_again: frozenset[int] = frozenset()
    ) -> int | None:
        """Send it where? None: nowhere is left. not_again: those that have refused it."""
        view = self.view
        open_to = view.alive.copy()
        open_to[list(not_again)] = False
        rows = open_to.nonzero()[0]
        if not len(rows):
            return None
        costs = self._ranking.costs(view, request, now_s)[rows]
        best = rows[costs <= costs.min()]
        chosen = int(best[np.argmin(view.sent[best])])
        self.send(chosen, request, now_s)
        return chosen

    def send(self, replica: int, request: RoutedRequest, now_s: float) -> None:
        """It goes there, chosen or because it is awaited there."""
        self.view.send(replica, request, now_s)

    def report(self, replica: int, load: ReplicaLoad) -> None:
        """A replica tells its load."""
        self.view.report(replica, load)

    def joined(self, replica: Replica) -> int:
        """One more, or one in the place of another. Returns its number."""
        return self.view.add(replica)

    def lost(self, replica: int) -> None:
        """It is gone, and its cache with it."""
        self.view.remove(replica)
