"""Where does a request go, and where when that fails? One request, at most three replicas.

A refusal is tried once more, where the router now thinks best and with what is left of its time: a
429 means that two replicas could not. A replica that is lost, drains or fails is replaced at most
twice, as long as the client has seen nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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
        tried: list[str] = []
        awaited = self._awaited.at(outgoing)
        again = bool(awaited) and _QUOTE not in dict(outgoing.scope["headers"])

        def taken() -> None:
            if not again:
                asked(self._now_s())

        def choose() -> Member | None:
            started_s = time.perf_counter()
            member = self._members.choose(request, frozenset(tried), awaited)
            self._counts.routed(time.perf_counter() - started_s)
            return member

        def left() -> RawHeaders:
            return _time_left(request, self._now_s()) if tried else []

        refused = await self._try(choose, left, tried, outgoing, _told_of_begin(send, taken))
        if refused is not None:
            taken()
            self._awaited.refused(outgoing, refused)

    async def quote(self, request: RoutedRequest, outgoing: Outgoing, send: Send) -> None:
        """Which SLO could this request have? Of the replica that would get it. For the router it is
        sent there until that tells its load again: else all would be quoted by one."""
        tried: list[str] = []
        listener = QuoteListener(send, self._awaited)
        await self._try(
            lambda: self._members.choose(request, frozenset(tried)),
            list,
            tried,
            outgoing,
            listener,
        )

    async def pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        """Anything else: any replica."""
        tried: list[str] = []
        await self._try(
            lambda: self._members.any(frozenset(tried)),
            list,
            tried,
            Outgoing(scope, body),
            send,
        )

    async def _try(
        self,
        choose: Callable[[], Member | None],
        headers: Callable[[], RawHeaders],
        tried: list[str],
        outgoing: Outgoing,
        send: Send,
    ) -> NotAnswered | None:
        """The refusal that the client was given, if it was given one."""
        refusals: list[NotAnswered] = []
        losses: list[NotAnswered] = []
        while len(refusals) < MOST_REFUSALS and len(losses) < MOST_LOSSES:
            member = choose()
            if member is None:
                break
            self._counts.sent(member.name)
            missed = await exchange(self._session, member, outgoing, send, headers())
            if missed is None:
                return None
            tried.append(member.name)
            self._counts.not_answered(member.name, missed.why)
            if missed.why == "refused":
                refusals.append(missed)
            else:
                losses.append(missed)
                if missed.why in ("lost", "unavailable"):
                    self._members.failed(member)
        best = min(refusals, key=lambda missed: missed.retry_after_s, default=None)
        await _give_up(send, outgoing, [*losses, *([] if best is None else [best])])
        return best


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
