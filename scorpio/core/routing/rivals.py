"""How do other routers choose? Each as its source describes it, on the same statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.forecast import forecasts
from scorpio.core.routing.load import RoutedRequest

_MIX = 0x9E3779B97F4A7C15  # spreads neighbouring numbers (Knuth, TAOCP 6.4)
_WORD = 2**64


def spread(number: int, salt: int = 0) -> int:
    """A number that looks like chance, and is the same in each run (splitmix64)."""
    mixed = (number + salt + 1) * _MIX % _WORD
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % _WORD
    return mixed ^ (mixed >> 31)


class RoundRobin:
    """In turn."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        return view.sent


class LeastLoaded:
    """The fewest requests, running and waiting."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        return view.requests


class LeastWork:
    """The fewest prefill tokens to compute."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        return view.queued_tokens


class PowerOfTwo:
    """The less loaded of two drawn by chance (Mitzenmacher, TPDS 2001); Ray Serve's default."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        rows = view.alive.nonzero()[0]
        drawn = {int(rows[spread(request.seq, salt) % len(rows)]) for salt in (1, 2)}
        costs = np.full(len(view), np.inf)
        costs[list(drawn)] = view.requests[list(drawn)]
        return costs


class PrefixAffinity:
    """Where most of the prompt has been sent before, while that is not much fuller than the others
    (llm-d and production-stack); else the least loaded."""

    most_above = 1.25  # of the mean load (bounded load: Mirrokni et al., SODA 2018)

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        hits, load = view.prefixes.hits(request), view.requests
        fits = load <= self.most_above * (load[view.alive].mean() + 1.0)
        costs: FloatArray = np.where(fits, -hits, 0.0) + load / (load.max() + 1.0)
        return costs


class LMetric:
    """(prefill tokens to compute if it came here) x (batch size here) (LMetric, OSDI 2026)."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        costs: FloatArray = (view.queued_tokens + view.new_tokens(request)) * (view.requests + 1.0)
        return costs


class Headroom:
    """Predicted TTFT and TPOT (llm-d, `sloheadroomtier`): those that keep both promises first, of
    them the one with least to spare; else the one that misses by least. One request in a hundred
    goes anywhere, so that no forecast stays wrong."""

    explores = 100

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        if spread(request.seq) % self.explores == 0:
            return np.zeros(len(view))
        found = forecasts(view, request, now_s)
        slo, left_s = request.slo, request.deadline_s - now_s
        if not (np.isfinite(left_s) or np.isfinite(slo.tpot_s)):
            return view.requests
        ttft = (left_s - found.ttft_s) / max(slo.ttft_s, 1e-3) if np.isfinite(left_s) else np.inf
        tpot = (slo.tpot_s - found.tpot_s) / slo.tpot_s if np.isfinite(slo.tpot_s) else np.inf
        room = np.minimum(ttft, tpot)
        costs: FloatArray = np.where(room >= 0.0, room, 1e6 - np.maximum(room, -1e5))
        return costs


@dataclass(frozen=True, slots=True)
class FullestFeasible:
    """TPOT bins, and of a bin's replicas the fullest that still keeps the promise (PolyServe,
    arXiv 2507.17769). A replica belongs to the bin of its tightest request; an empty one to any."""

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        found = forecasts(view, request, now_s)
        kept = found.keeps(request, now_s)
        same = view.tightest_s == request.slo.tpot_s
        tighter = view.tightest_s < request.slo.tpot_s
        empty = np.isinf(view.tightest_s)
        tier = np.select([same & kept, empty & kept, tighter & kept, kept], [0, 1, 2, 3], 4)
        load = view.requests / (view.requests.max() + 1.0)
        costs: FloatArray = 10.0 * tier + np.where(tier < 4, -load, load)
        return costs


@dataclass(frozen=True, slots=True)
class Split:
    """So many replicas for requests with a TPOT SLO up to `tight_s`, the others for the rest; the
    least work inside each."""

    replicas: int
    tight_s: float

    def costs(self, view: FleetView, request: RoutedRequest, now_s: float) -> FloatArray:
        tight = np.arange(len(view)) < self.replicas
        mine = tight == (request.slo.tpot_s <= self.tight_s)
        work = view.queued_tokens
        costs: FloatArray = np.where(mine, work, 1e12 + work)
        return costs
