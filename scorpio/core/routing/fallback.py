"""Which deployment gets this request: the first, or the cheaper one that its class may fall to?

A request falls back when its class may, its ceiling has room, and the first deployment cannot keep
its promises: one of its replicas has refused it; or, by forecast, none of them keeps them and one
of the fallback does; or none is there. To fall back as soon as the one replica that is chosen would
break them keeps hardly more and serves up to twice as many tokens there (docs/notebook.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from scorpio.core.routing.forecast import forecasts
from scorpio.core.routing.load import RoutedRequest
from scorpio.core.routing.router import Router

MEMORY: Final = 1000  # requests of a class for which a fallback that was not used is kept
_ROUNDING: Final = 1e-9


class Place(NamedTuple):
    """A replica: its row in the view of its deployment."""

    fallback: bool
    row: int


class Ceiling:
    """Of one class. Each request brings `share` of a fallback, and one that falls back takes a
    whole one: of all that came no more than the share fell back, and of any n in a row no more than
    share * (n + MEMORY)."""

    def __init__(self, share: float) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share must be in (0, 1], got {share!r}")
        self.share = share
        self.came, self.fell = 0, 0
        self._left, self._most = 0.0, max(share * MEMORY, 1.0)

    @property
    def room(self) -> bool:
        """May one more fall back?"""
        return self._left >= 1.0 - _ROUNDING

    def comes(self) -> None:
        """A request of the class."""
        self.came += 1
        self._left = min(self._left + self.share, self._most)

    def falls(self, count: int = 1) -> None:
        """It falls back; -1: it was not served there after all."""
        self.fell += count
        self._left -= count


class Deployments:
    """The first deployment of a fleet and its fallback; without one the second router has no
    replica. name: of the fallback, as clients name a model. State: the ceilings."""

    def __init__(
        self, first: Router, fallback: Router, shares: Mapping[str, float], name: str = ""
    ) -> None:
        self._first, self._fallback, self.name = first, fallback, name
        self.ceilings: dict[str, Ceiling] = {}
        self.allow(shares)

    def allow(self, shares: Mapping[str, float]) -> None:
        """These classes may fall back, so far. What was counted stays where the share does."""
        old = self.ceilings
        self.ceilings = {}
        for slo_class, share in shares.items():
            known = old.get(slo_class)
            kept = known is not None and known.share == share
            self.ceilings[slo_class] = old[slo_class] if kept else Ceiling(share)

    def comes(self, request: RoutedRequest) -> None:
        """Told once of each request, before it is sent."""
        if (ceiling := self._ceiling(request)) is not None:
            ceiling.comes()

    def choose(
        self,
        request: RoutedRequest,
        now_s: float,
        not_again: frozenset[Place] = frozenset(),
        refused: bool = False,
    ) -> Place | None:
        """Send it where? None: nowhere is left. not_again: where it was in vain. refused: by the
        first deployment."""
        for fallback in self._in_turn(request, now_s, refused):
            rows = frozenset(place.row for place in not_again if place.fallback is fallback)
            row = self.router(fallback).choose(request, now_s, rows)
            if row is not None:
                self._note(fallback, request)
                return Place(fallback, row)
        return None

    def send(self, place: Place, request: RoutedRequest, now_s: float) -> None:
        """It goes there, because it is awaited there."""
        self.router(place.fallback).send(place.row, request, now_s)
        self._note(place.fallback, request)

    def not_served(self, request: RoutedRequest) -> None:
        """The fallback to which it went has not answered it."""
        if (ceiling := self._ceiling(request)) is not None:
            ceiling.falls(-1)

    def router(self, fallback: bool) -> Router:
        """Of one of the two."""
        return self._fallback if fallback else self._first

    def may_go_there(self, request: RoutedRequest) -> bool:
        """To the fallback: it is what the client named, or the request may fall back now."""
        return self._is_named(request) or self._may_fall(request)

    def _in_turn(self, request: RoutedRequest, now_s: float, refused: bool) -> tuple[bool, ...]:
        """The deployments that it may be sent to, the better one first: is it the fallback?"""
        if self._is_named(request):
            return (True,)
        if not self._may_fall(request):
            return (False,)
        falls = refused or (
            not _keeps(self._first, request, now_s) and _keeps(self._fallback, request, now_s)
        )
        return (falls, not falls)

    def _is_named(self, request: RoutedRequest) -> bool:
        return bool(self.name) and request.model == self.name

    def _may_fall(self, request: RoutedRequest) -> bool:
        ceiling = self._ceiling(request)
        return ceiling is not None and ceiling.room

    def _note(self, fallback: bool, request: RoutedRequest) -> None:
        if fallback and (ceiling := self._ceiling(request)) is not None:
            ceiling.falls()

    def _ceiling(self, request: RoutedRequest) -> Ceiling | None:
        """None: it does not fall back; an adapter is there on the first deployment alone."""
        return None if request.model else self.ceilings.get(request.slo_class)


def _keeps(router: Router, request: RoutedRequest, now_s: float) -> bool:
    """By forecast, does any replica there keep both promises? What is not measured is believed."""
    view = router.view
    alive = view.alive.nonzero()[0]
    if not all(view.replicas[row].measured for row in alive):
        return True
    return bool(forecasts(view, request, now_s).keeps(request, now_s)[alive].any())
