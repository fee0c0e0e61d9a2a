"""What answers at a fleet's address? An ASGI app: it reads a request, routes it, passes it on.

The API is the replicas': what they answer is passed on unchanged. The fleet's own are its health,
its status, its metrics, and acts that concern every replica (everyone.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import ClientSession
from starlette.types import Receive, Scope, Send

from scorpio.core.plan import RejectReason
from scorpio.core.slo import NO_SLO
from scorpio.core.wire import RejectionNotice
from scorpio.fleet.counts import Counts
from scorpio.fleet.dispatch import Dispatcher
from scorpio.fleet.everyone import (
    ACTS,
    MODELS_PATH,
    act_on_each,
    fleet_metrics,
    fleet_models,
    fleet_status,
    greet,
    try_on_each,
)
from scorpio.fleet.exchange import Outgoing
from scorpio.fleet.members import Member, Members
from scorpio.fleet.page import FleetPage
from scorpio.fleet.reading import Reader
from scorpio.fleet.registry import Address
from scorpio.fleet.settings import FleetSettings, fallback_shares
from scorpio.fleet.standing import StandingActs
from scorpio.fleet.wanted import Wanted
from scorpio.http_client import connector
from scorpio.server.accounts.in_flight import (
    BodyTimeoutError,
    BodyTooLargeError,
    Caps,
    InFlight,
    QueueFullError,
    read_body,
)
from scorpio.server.accounts.terms import make_terms
from scorpio.server.answers import Answer, error_answer, json_answer, send_answer
from scorpio.server.context import caps_of
from scorpio.server.page.routes import PAGE_PATHS
from scorpio.server.quote.route import QUOTE_PATH
from scorpio.server.request.endpoints import ENDPOINTS, Endpoint, route_path, routed
from scorpio.server.request.rejection import refusal_answer
from scorpio.server.state.admin import CONFIG_PATH, STATUS_PATH, is_dry_run
from scorpio.server.state.health import HEALTH_PATH
from scorpio.server.state.metrics import METRICS_PATH
from scorpio.settings import ScorpioSettings, SettingsError

logger = logging.getLogger("scorpio.fleet")
MEET_S = 0.5
_HEALTH = (HEALTH_PATH, "/health", "/ping")
Replicas = Callable[[], Awaitable[Mapping[str, Address]]]


class Front:
    """replicas: asked twice a second for the address of each."""

    def __init__(
        self,
        settings: FleetSettings,
        replicas: Replicas,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._replicas, self._now_s = settings, replicas, now_s
        self._members: Members | None = None
        told, self._terms = settings.read()
        self._in_flight = InFlight(_caps(told))
        self._use(told)
        self._counts = Counts()
        self._standing = StandingActs()
        self._wanted = Wanted(settings)
        self._session: ClientSession | None = None
        self._meeting: asyncio.Task[None] | None = None

    def _use(self, told: ScorpioSettings) -> None:
        """These count for requests that come from now on."""
        self._status = told.rejection_status
        self._reader = Reader(make_terms(told, told), self._settings.names)
        self._shares = fallback_shares(told)
        if self._members is not None:
            self._members.deployments.allow(self._shares)
        self._in_flight.caps = _caps(told)

    def _follow(self, terms: frozenset[str]) -> None:
        """Replicas that go by another SLO file have read it again, on the word of another front
        perhaps; to route by it this one does, too, as soon as its node has the same file."""
        if not terms or self._terms in terms:
            return
        if (found := self._settings.file_digest()) not in terms:
            return
        try:
            told, read = self._settings.read()
        except SettingsError as error:  # it is for a fleet with another fallback
            logger.error("the SLO file was not taken by this front: %s", error)
            self._terms = found
            return
        if read in terms:  # else it was replaced meanwhile, and they do not go by it
            self._use(told)
            self._terms = read

    async def _reload(self, session: ClientSession, scope: Scope, body: bytes) -> Answer:
        """Every replica and this front try the file before one takes it."""
        tried = await try_on_each(session, self.members, scope, body)
        if tried.status != 200 or is_dry_run(scope):
            return tried
        try:
            told, read = self._settings.read()
        except SettingsError as error:
            return error_answer(400, str(error), kind="BadRequestError")
        answer = await act_on_each(session, self.members, scope, body)
        if answer.status == 200:
            self._use(told)
            self._terms = read
        return answer

    @property
    def members(self) -> Members:
        """The replicas, from the start on. RuntimeError before it."""
        if self._members is None:
            raise RuntimeError("the front has not started")
        return self._members

    @property
    def wanted_replicas(self) -> int | None:
        """Replicas that there should be; None: not this front's to say, or not known yet."""
        return self._wanted.replicas

    def among(self, fronts: int) -> None:
        """So many share what comes, this one included."""
        self._wanted.fronts = max(fronts, 1)

    async def start(self) -> None:
        """From now on it knows its replicas."""
        settings = self._settings
        # What may be under way has its bound in `InFlight`. What a replica compresses stays so.
        self._session = ClientSession(connector=connector(), auto_decompress=False)
        self._members = Members(
            settings.router,
            self._session,
            settings.quiet_s,
            settings.lost_s,
            self._now_s,
            partial(self._greet, self._session),
            settings.fallback_name,
        )
        self._members.deployments.allow(self._shares)
        self._dispatcher = Dispatcher(self._members, self._session, self._counts, self._now_s)
        self._page = FleetPage(self._session, self._members)
        self._meeting = asyncio.create_task(self._meet())

    async def _greet(self, session: ClientSession, member: Member) -> None:
        await greet(session, member, self._standing)

    async def stop(self) -> None:
        """No more questions, no more connections."""
        if self._meeting is not None:
            self._meeting.cancel()
        if self._members is not None:
            await self._members.close()
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(routed(scope), receive, send)
        else:  # no replica is chosen for a socket that stays open
            await receive()
            await send({"type": "websocket.close", "code": 1011, "reason": "not behind a fleet"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _meet(self) -> None:
        while True:
            try:
                self.members.meet(await self._replicas())
                self._wanted.look(self.members.view, self._now_s())
                self._follow(self.members.terms)
            except Exception as error:  # then those that are known stay known
                logger.warning("the list of replicas cannot be read: %r", error)
            await asyncio.sleep(MEET_S)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = route_path(scope), scope["method"]
        if method in ("GET", "HEAD") and (answer := await self._own(path)) is not None:
            await send_answer(send, answer)
            return
        if path in PAGE_PATHS and self._session is not None:
            await self._page.routes.respond(scope, path, receive, send)
            return
        endpoint = ENDPOINTS.get(path) if method == "POST" else None
        anthropic = endpoint is not None and endpoint.anthropic_errors
        with self._in_flight.slot("") as slot:
            try:
                self._in_flight.take(slot, 1)
                hold = partial(self._in_flight.hold, slot)
                body = await read_body(scope, receive, self._in_flight.caps.body_bytes, hold)
            except QueueFullError:
                await send_answer(send, self._full(anthropic))
                return
            except BodyTooLargeError as error:
                await send_answer(send, error_answer(413, str(error), anthropic=anthropic))
                return
            except BodyTimeoutError:
                said = "the body did not come"
                await send_answer(send, error_answer(408, said, anthropic=anthropic))
                return
            if body is not None:
                await _while_there(receive, self._answer(scope, path, endpoint, body, send))

    async def _own(self, path: str) -> Answer | None:
        """What the fleet itself answers."""
        if path in _HEALTH:
            able = len(self.members)
            return json_answer(200 if able else 503, {"replicas": able})
        if self._session is None:
            return None
        if path == STATUS_PATH:
            return await fleet_status(self._session, self.members, self._settings.router)
        if path == METRICS_PATH:
            own = self._counts.text(self.members, self.wanted_replicas)
            text = await fleet_metrics(self._session, self.members, own)
            return Answer(200, text, {"content-type": "text/plain; version=0.0.4"})
        return None

    async def _answer(
        self, scope: Scope, path: str, endpoint: Endpoint | None, body: bytes, send: Send
    ) -> None:
        if path in ACTS and self._session is not None:
            act = self._reload if path == CONFIG_PATH else self._act
            await send_answer(send, await act(self._session, scope, body))
        elif path == MODELS_PATH and self._settings.fallback is not None and self._session:
            await send_answer(send, await fleet_models(self._session, self.members, scope))
        elif path == QUOTE_PATH and scope["method"] == "POST":
            request = self._reader.asked(body, self._now_s())
            await self._dispatcher.quote(request, Outgoing(scope, body), send)
        elif endpoint is None:
            await self._dispatcher.pass_on(scope, body, send)
        else:
            request = self._reader.read(body, scope, endpoint, self._now_s())
            asked = self._wanted.asked(self.members.view, request)
            outgoing = Outgoing(scope, body, endpoint.anthropic_errors)
            await self._dispatcher.generate(request, outgoing, send, asked)

    async def _act(self, session: ClientSession, scope: Scope, body: bytes) -> Answer:
        answer = await act_on_each(session, self.members, scope, body)
        if answer.status == 200:
            self._standing.done(route_path(scope), Outgoing(scope, body))
        return answer

    def _full(self, anthropic: bool) -> Answer:
        notice = RejectionNotice(RejectReason.QUEUE_FULL, self._in_flight.retry_after_ms(), None)
        return refusal_answer(notice, NO_SLO, self._status, anthropic=anthropic)


def _caps(told: ScorpioSettings) -> Caps:
    """Keys are checked, and their requests counted, by replicas."""
    return replace(caps_of(told), per_key=told.most_in_flight)


async def _while_there(receive: Receive, answering: Coroutine[Any, Any, None]) -> None:
    """As long as the client is: when it leaves, its replica is told by a closed connection."""
    work = asyncio.ensure_future(answering)
    left = asyncio.ensure_future(_has_left(receive))
    try:
        await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
    if not work.cancelled():
        work.result()


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
