"""Which routers are there? Names, as the fleet twin and the fleet's command take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.promises import Promises
from scorpio.core.routing.rivals import (
    FullestFeasible,
    Headroom,
    LeastLoaded,
    LeastWork,
    LMetric,
    PowerOfTwo,
    PrefixAffinity,
    RoundRobin,
)
from scorpio.core.routing.router import Ranking

ROUTERS: Mapping[str, Callable[[FleetView], Ranking]] = {
    "promises": Promises,
    "round-robin": lambda _: RoundRobin(),
    "least-loaded": lambda _: LeastLoaded(),
    "least-work": lambda _: LeastWork(),
    "power-of-two": lambda _: PowerOfTwo(),
    "prefix-affinity": lambda _: PrefixAffinity(),
    "lmetric": lambda _: LMetric(),
    "headroom": lambda _: Headroom(),
    "fullest-feasible": lambda _: FullestFeasible(),
}


def make_ranking(name: str, view: FleetView) -> Ranking:
    """Raises ValueError with the valid names."""
    if name not in ROUTERS:
        raise ValueError(f"unknown router {name!r}; valid: {', '.join(ROUTERS)}")
    return ROUTERS[name](view)
