"""Where does a request go, and where when that fails? One request, at most three replicas.

A refusal is tried once more, where the router now thinks best and with what is left of its time: a
429 means that two replicas could not. One whose class may fall back is tried at the fallback then.
A replica that is lost, drains or fails is replaced at most twice, as long as the client has seen
nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientSession
from starlette.types import Message, Scope, Send

from scorpio.core.routing.load import RoutedRequest
from scorpio.core.slo import MAX_SLO_MS
from scorpio.fleet.awaited import Awaited, QuoteListener
from scorpio.fleet.counts import Counts
from scorpio.fleet.exchange import NotAnswered, Outgoing, exchange
from scorpio.fleet.members import Member, Members
from scorpio.server.answers import RawHeaders, error_answer, send_answer
from scorpio.server.request.slo_headers import QUOTE_HEADER

MOST_REFUSALS = 2
MOST_LOSSES = 3
RETRY_AFTER_S = 2
LEAST_LEFT_MS = 1.0
FALLBACK_HEADER = "x-scorpio-fallback"
_QUOTE = QUOTE_HEADER.encode()  # awaited, but it comes for the first time


class Dispatcher:
    """Sends requests on; of them it keeps at which replica they are awaited."""

    def __init__(
        self,
        members: Members,
        session: ClientSession,
        counts: Counts,
        now_s: Callable[[], float],
    ) -> None:
        self._members, self._session = members, session
        self._counts, self._now_s = counts, now_s
        self._awaited = Awaited(now_s)

    async def generate(
        self, request: RoutedRequest, outgoing: Outgoing, send: Send, asked: Callable[[float], None]
    ) -> None:
        """A request for tokens: it goes where it is awaited, else the router chooses. asked: told
        when it is known to be work: its answer begins, or it was refused for being too much now.
        Not when it was refused before."""
        tries = _Tries()
        awaited = self._awaited.at(outgoing)
        again = bool(awaited) and _QUOTE not in dict(outgoing.scope["headers"])
        deployments = self._members.deployments
        if not again:
            deployments.comes(request)

        def taken() -> None:
            if not again:
                asked(self._now_s())

        def begins() -> None:
            taken()
            if _fell(request, tries.last):
                self._counts.fell_back(request.slo_class)

        def choose() -> Member | None:
            started_s = time.perf_counter()
            member = self._members.choose(request, tries.names, awaited, tries.refused)
            self._counts.routed(time.perf_counter() - started_s)
            return member

        def in_vain(member: Member) -> None:
            if member.fallback:
                deployments.not_served(request)

        way = _Way(
            choose,
            lambda: _time_left(request, self._now_s()) if tries.names else [],
            lambda member: self._told(request, member),
            in_vain,
        )
        refused = await self._try(way, tries, outgoing, _told_of_begin(send, begins))
        if refused is not None:
            taken()
            self._awaited.refused(outgoing, refused)

    async def quote(self, request: RoutedRequest, outgoing: Outgoing, send: Send) -> None:
        """Which SLO could this request have? Of the replica that would get it. For the router it is
        sent there until that tells its load again: else all would be quoted by one."""
        tries = _Tries()
        way = _Way(lambda: self._members.choose(request, tries.names))
        await self._try(way, tries, outgoing, QuoteListener(send, self._awaited))

    async def pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        """Anything else: any replica."""
        tries = _Tries()
        way = _Way(lambda: self._members.any(tries.names))
        await self._try(way, tries, Outgoing(scope, body), send)

    def _told(self, request: RoutedRequest, member: Member) -> RawHeaders:
        if not _fell(request, member):
            return []
        return [(FALLBACK_HEADER.encode(), self._members.deployments.name.encode())]

    async def _try(
        self, way: _Way, tries: _Tries, outgoing: Outgoing, send: Send
    ) -> NotAnswered | None:
        """The refusal that the client was given, if it was given one."""
        refusals: list[NotAnswered] = []
        losses: list[NotAnswered] = []
        while len(refusals) < MOST_REFUSALS and len(losses) < MOST_LOSSES:
            member = way.choose()
            if member is None:
                break
            headers, told = way.headers(), way.told(member)
            tries.last = member
            self._counts.sent(member.name)
            missed = await exchange(self._session, member, outgoing, send, headers, told)
            if missed is None:
                return None
            tries.names |= {member.name}
            way.in_vain(member)
            self._counts.not_answered(member.name, missed.why)
            if missed.why == "refused":
                tries.refused |= not member.fallback
                refusals.append(missed)
            else:
                losses.append(missed)
                if missed.why in ("lost", "unavailable"):
                    self._members.failed(member)
        best = min(refusals, key=lambda missed: missed.retry_after_s, default=None)
        await _give_up(send, outgoing, [*losses, *([] if best is None else [best])])
        return best


@dataclass(slots=True)
class _Tries:
    """Where a request has been in vain; last: where it is now. refused: by the first deployment."""

    names: frozenset[str] = frozenset()
    refused: bool = False
    last: Member | None = None


@dataclass(frozen=True, slots=True)
class _Way:
    """choose: the next replica, None = none is left. headers: for it. told: headers for the client,
    of what it answers. in_vain: it has not answered."""

    choose: Callable[[], Member | None]
    headers: Callable[[], RawHeaders] = list
    told: Callable[[Member], RawHeaders] = lambda _: []
    in_vain: Callable[[Member], None] = lambda _: None


def _fell(request: RoutedRequest, member: Member | None) -> bool:
    """It is there, and its client has not asked for that model."""
    return member is not None and member.fallback and not request.model


def _told_of_begin(send: Send, begins: Callable[[], None]) -> Send:
    """begins: called when an answer begins that is no error."""

    async def listening(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            begins()
        await send(message)

    return listening


async def _give_up(send: Send, outgoing: Outgoing, missed: list[NotAnswered]) -> None:
    """The last of these that said something; else our own error."""
    if said := [one for one in missed if one.status]:
        last = said[-1]
        await send({"type": "http.response.start", "status": last.status, "headers": last.headers})
        await send({"type": "http.response.body", "body": last.body, "more_body": False})
        return
    answer = error_answer(
        503,
        "no replica can take this request now",
        headers={"retry-after": str(RETRY_AFTER_S), "x-scorpio-reject-reason": "no_replica"},
        anthropic=outgoing.anthropic,
    )
    await send_answer(send, answer)


def _time_left(request: RoutedRequest, now_s: float) -> RawHeaders:
    """Its objectives, as the next replica has to see them: the time that has passed is gone."""
    slo, passed_s = request.slo, now_s - request.arrival_s
    headers: RawHeaders = []
    for name, limit_s in ((b"x-llm-d-slo-ttft-ms", slo.ttft_s), (b"x-slo-e2el-ms", slo.e2e_s)):
        if math.isfinite(limit_s):
            left_ms = min(max((limit_s - passed_s) * 1000.0, LEAST_LEFT_MS), MAX_SLO_MS)
            headers.append((name, f"{left_ms:.3f}".encode()))
    return headers
