"""How many replicas does a front want? From the requests it has read, as `autoscale.py` decides.

A front sees its part of what comes; of several fronts each takes itself for one in so many. Answers
of unknown length count for 256 tokens, here as where requests are routed. What was never served
(a wrong key, a body that makes no sense) counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from scorpio.core.demand import Demand
from scorpio.core.routing.autoscale import Autoscaler
from scorpio.core.routing.carried import FluidKept
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import RoutedRequest
from scorpio.fleet.settings import FleetSettings


class Wanted:
    """Of one front. State: what came since the last look, its mix, and the rule's own.

    fronts: those that share what comes, as far as is known. replicas: so many are wanted; None:
    not this front's to choose, or not known yet.
    """

    def __init__(self, settings: FleetSettings) -> None:
        options = settings.autoscale
        self._rule = None if options is None else Autoscaler(options)
        self._mix, self._asked_s = Demand(), 0.0
        self._last_s: float | None = None
        self._fallback = settings.fallback_name
        self._starting = settings.replicas  # until as many have served once
        self.fronts = settings.fronts
        self.replicas: int | None = None

    def asked(self, view: FleetView, request: RoutedRequest) -> Callable[[float], None]:
        """A request is read, and not yet sent: later its own prompt is taken for known. Call what
        is returned, with the time, when a replica has taken it for work: served it, or was too busy
        to.
        """
        alive = view.alive.nonzero()[0]
        elsewhere = bool(self._fallback) and request.model == self._fallback
        if self._rule is None or elsewhere or not len(alive) or request.slo.tpot_s <= _base_s(view):
            return _nothing
        most = max(view.replicas[row].kv_tokens for row in alive)  # none serves a longer prompt
        new_tokens = min(float(view.new_tokens(request)[alive].min()), most)
        held = replace(request, prompt_tokens=min(request.prompt_tokens, most))
        return partial(self._note, view, held, new_tokens)

    def _note(
        self, view: FleetView, request: RoutedRequest, new_tokens: float, now_s: float
    ) -> None:
        self._asked_s += view.work_s(request, new_tokens)
        self._mix.note(now_s, request.slo.tpot_s, view.work_s(request, new_tokens))

    def look(self, view: FleetView, now_s: float) -> None:
        """Asked twice a second; decides when it is time, first when one such time has passed since
        a replica was there. Without a replica nothing is known of speeds, so nothing changes."""
        rule = self._rule
        if rule is None or not view.alive.any():
            return
        if self._last_s is None:
            self._last_s = now_s
        past_s = now_s - self._last_s
        if past_s < rule.options.every_s:
            return
        load = self.fronts * self._asked_s / past_s
        self._last_s, self._asked_s = now_s, 0.0
        serving = int(view.alive.sum())
        if serving >= self._starting:
            self._starting = 0
        present = max(serving, self._starting, self.replicas or 0)
        kept = FluidKept(self._mix.levels(now_s), _base_s(view))
        self.replicas = rule.wanted(now_s, load, present, kept)


def _base_s(view: FleetView) -> float:
    return float(view.base_s[view.alive].mean())


def _nothing(_now_s: float) -> None:
    pass
