"""How many replicas does a front want? From the requests it has read, as `autoscale.py` decides.

A front sees its part of what comes; of several fronts each takes itself for one in so many. Answers
of unknown length count for 256 tokens, here as where requests are routed.
"""

from __future__ import annotations

import math

from scorpio.core.routing.autoscale import Autoscaler
from scorpio.core.routing.carried import FluidKept
from scorpio.core.routing.demand import Demand
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import RoutedRequest
from scorpio.fleet.settings import FleetSettings


class Wanted:
    """Of one front. State: what came lately, and the rule's own."""

    def __init__(self, settings: FleetSettings) -> None:
        options = settings.autoscale
        self._rule = None if options is None else Autoscaler(options)
        self._fronts, self._demand = settings.fronts, Demand()
        self._next_s = -math.inf
        self.replicas: int | None = None  # None: replicas are not this front's to choose

    def note(self, view: FleetView, request: RoutedRequest, now_s: float) -> None:
        """A request came, and replicas are known."""
        if self._rule is not None and view.alive.any():
            self._demand.note(view, request, float(view.new_tokens(request).min()), now_s)

    def look(self, view: FleetView, now_s: float) -> None:
        """Asked twice a second; decides when it is time. Without a replica nothing is known of
        speeds, so nothing changes."""
        rule = self._rule
        if rule is None or now_s < self._next_s or not view.alive.any():
            return
        self._next_s = now_s + rule.options.every_s
        serving = int(view.alive.sum())
        levels = self._demand.levels(now_s)
        load = self._fronts * sum(level.load for level in levels.values())
        kept = FluidKept(levels, float(view.base_s[view.alive].mean()))
        present = max(serving, self.replicas or 0)
        self.replicas = rule.wanted(now_s, load, present, kept)
