"""Which replicas may be sent to, and what do they say? Asked twice a second, each by itself.

A replica joins with its first answer. One that has said nothing for `quiet_s` gets nothing new; for
`lost_s`, and what it has in work is given up too. One that drains or has stalled says so itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from scorpio.core.routing.fallback import Deployments, Place
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import Replica, ReplicaLoad, RoutedRequest
from scorpio.core.routing.registry import make_ranking
from scorpio.core.routing.router import Router
from scorpio.fleet.registry import Address
from scorpio.server.state.load import LOAD_PATH

logger = logging.getLogger("scorpio.fleet")
ASK_S = 0.5
ANSWER_S = 1.0  # for an answer; silence is counted over several questions


class State(Enum):
    """ok: takes requests. Others take none: starting (has not answered yet), draining, stalled and
    dead (its own words), quiet (says nothing), lost (given up)."""

    STARTING = "starting"
    OK = "ok"
    DRAINING = "draining"
    STALLED = "stalled"
    DEAD = "dead"
    QUIET = "quiet"
    LOST = "lost"


@dataclass(eq=False, slots=True)
class Member:
    """One replica. row: its number in the router's view, None before its first answer. gone: set
    when it is given up. in_work: requests that a front has there. leaving: it is taken away,
    whatever it says itself. fallback: it is of that deployment."""

    name: str
    url: str
    state: State = State.STARTING
    row: int | None = None
    heard_s: float = 0.0
    told: Mapping[str, Any] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    in_work: int = 0
    leaving: bool = False
    fallback: bool = False

    @property
    def place(self) -> Place | None:
        """Where routers know it; None before its first answer."""
        return None if self.row is None else Place(self.fallback, self.row)

    @property
    def tries(self) -> bool:
        """Can it be asked what an SLO file would change? To a Scorpio that is too old that is a
        reload; one that tells its `terms` knows both."""
        return "terms" in self.told


class Members:
    """All replicas, and the routers over those that answer. fallback: name of that deployment."""

    def __init__(
        self,
        router: str,
        session: ClientSession,
        quiet_s: float,
        lost_s: float,
        now_s: Callable[[], float],
        greet: Callable[[Member], Awaitable[None]],
        fallback: str = "",
    ) -> None:
        self.deployments = Deployments(_router(router), _router(router), {}, fallback)
        self._session = session
        self._quiet_s, self._lost_s, self._now_s, self._greet = quiet_s, lost_s, now_s, greet
        self._asking: dict[str, asyncio.Task[None]] = {}
        self.by_name: dict[str, Member] = {}

    def __len__(self) -> int:
        return sum(member.state is State.OK for member in self.by_name.values())

    @property
    def view(self) -> FleetView:
        """What the router believes of those of the first deployment."""
        return self.deployments.router(False).view

    @property
    def terms(self) -> frozenset[str]:
        """Which SLO files those that take requests go by."""
        able = (m for m in self.by_name.values() if m.state is State.OK)
        return frozenset(str(m.told.get("terms", "")) for m in able)

    def meet(self, there: Mapping[str, Address]) -> None:
        """These are there, and no others."""
        for name, (url, fallback) in there.items():
            if name in self.by_name:
                self.by_name[name].leaving = False
            else:
                member = Member(name, url, heard_s=self._now_s(), fallback=fallback)
                self.by_name[name] = member
                self._asking[name] = asyncio.create_task(self._ask_on(member))
        for name in [name for name in self.by_name if name not in there]:
            if self.by_name[name].in_work == 0:
                self._forget(name)
            else:  # it finishes what it has
                self.by_name[name].leaving = True
                self._set(self.by_name[name], State.DRAINING)

    def choose(
        self,
        request: RoutedRequest,
        not_again: frozenset[str] = frozenset(),
        awaited: str = "",
        refused: bool = False,
    ) -> Member | None:
        """The replica for it, and it goes there; None when none is left. awaited: the one that has
        promised it a place. refused: the first deployment has refused it."""
        there, now_s = self.by_name.get(awaited), self._now_s()
        able = there is not None and there.state is State.OK and there.name not in not_again
        place = there.place if able and there is not None else None
        if place is not None and (not place.fallback or self.deployments.may_go_there(request)):
            self.deployments.send(place, request, now_s)
            return there
        places = {m.place: m for m in self.by_name.values() if m.place is not None}
        avoid = frozenset(place for place, m in places.items() if m.name in not_again)
        place = self.deployments.choose(request, now_s, avoid, refused)
        return None if place is None else places[place]

    def any(self, not_again: frozenset[str] = frozenset()) -> Member | None:
        """A replica for what is no work: of the first deployment, if any is there, the one with the
        least to do for this front."""
        able = [m for m in self.by_name.values() if m.state is State.OK]
        able = [m for m in able if m.name not in not_again]
        return min(able, key=lambda m: (m.fallback, m.in_work), default=None)

    def failed(self, member: Member) -> None:
        """It did not take a request. It gets no more until it answers a question."""
        if member.state is State.OK:
            self._set(member, State.QUIET)

    async def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask_on(self, member: Member) -> None:
        while True:
            asked_s = self._now_s()
            try:
                told = await self._ask(member)
                if member.row is None and told.get("engines"):
                    await self._greet(member)
                self._heard(member, told, asked_s)
            except (ClientError, TimeoutError, OSError, ValueError) as error:
                self._silent(member, error)
            await asyncio.sleep(max(ASK_S - (self._now_s() - asked_s), 0.05))

    async def _ask(self, member: Member) -> Mapping[str, Any]:
        timeout = ClientTimeout(total=min(ANSWER_S, self._quiet_s))
        async with self._session.get(member.url + LOAD_PATH, timeout=timeout) as response:
            told = await response.json()
        if not isinstance(told, dict):
            raise ValueError(f"{LOAD_PATH} of {member.name} is no object")
        return told

    def _heard(self, member: Member, told: Mapping[str, Any], asked_s: float) -> None:
        member.heard_s, member.told = self._now_s(), told
        said = told.get("state")
        state = State(said) if said in _SAID else State.STALLED
        if member.leaving and state is State.OK:
            state = State.DRAINING
        engines = told.get("engines") or []
        if not engines:  # its engine has not said anything yet
            return
        facts, load = _together(engines, asked_s)
        router = self.deployments.router(member.fallback)
        if member.row is None:
            member.row = router.joined(facts)
        router.report(member.row, load)
        self._set(member, state)

    def _silent(self, member: Member, error: Exception) -> None:
        silent_s = self._now_s() - member.heard_s
        if member.row is None:
            return
        if silent_s >= self._lost_s and member.state is not State.LOST:
            logger.warning("replica %s: nothing heard for %.1f s: %r", member.name, silent_s, error)
            self._set(member, State.LOST)
            member.gone.set()
            member.gone = asyncio.Event()  # for those that it gets when it is back
        elif member.state in (State.OK, State.DRAINING) and (
            silent_s >= self._quiet_s or not isinstance(error, TimeoutError)
        ):
            self._set(member, State.QUIET)

    def _set(self, member: Member, state: State) -> None:
        if member.state is not state:
            logger.info("replica %s: %s -> %s", member.name, member.state.value, state.value)
        member.state = state
        if member.row is not None:
            view = self.deployments.router(member.fallback).view
            view.allow(member.row, state is State.OK)

    def _forget(self, name: str) -> None:
        member = self.by_name.pop(name)
        self._asking.pop(name).cancel()
        if member.row is not None:
            self.deployments.router(member.fallback).lost(member.row)
        logger.info("replica %s: gone", name)


def _router(name: str) -> Router:
    """Of a deployment of which no replica has answered yet."""
    view = FleetView()
    return Router(view, make_ranking(name, view))


_SAID = frozenset(s.value for s in (State.OK, State.DRAINING, State.STALLED, State.DEAD))


def _together(engines: list[Mapping[str, Any]], asked_s: float) -> tuple[Replica, ReplicaLoad]:
    """Of data-parallel engines the busiest stands for all: vLLM balances between them."""
    loads = [ReplicaLoad.from_dict(e["load"], asked_s - float(e["age_s"])) for e in engines]
    busiest = max(loads, key=lambda load: sum(load.prefill_tokens) + load.running)
    return Replica.from_dict(engines[0]["replica"]), busiest
