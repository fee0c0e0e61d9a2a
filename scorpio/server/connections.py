"""How many connections may clients hold, how large may their headers be, and who holds one for
nothing?

uvicorn takes every connection and waits for ever for a header, for the rest of a body, and for a
client that does not read. Its protocol class, the one of this server's own configuration, is asked
here first; once a second its connections are looked at.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import time
from collections import Counter
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from scorpio.server.answers import Answer, error_answer
from scorpio.server.context import ServerContext
from scorpio.server.state.engine_watch import end_requests
from scorpio.server.state.metrics import count_answered, count_closed

logger = logging.getLogger("vllm.scorpio")
PERIOD_S = 1.0
SAY_AGAIN_S = 60.0
TOO_MANY, PER_ADDRESS, HEADER_SIZE = "too_many", "per_address", "header_size"
HEADER, BODY, UNREAD = "header_time", "body_time", "unread"
OVER_TIME = "over_time"
_OF_DESCRIPTORS = 0.9  # the rest is for files, the engine and the drain
_KIB = 1 << 10
_KNOWN = ("uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.http.h11_impl")
_GRACE_S = 5.0  # a body that we read ourselves has been answered 408 by then


class Connections:
    """Of one API process. http_server: uvicorn's, as in `app.state.server`."""

    def __init__(self, server: ServerContext, http_server: Any) -> None:
        self._server = server
        self._open: set[Any] = http_server.server_state.connections
        self._config = http_server.config
        self._by_address: Counter[str] = Counter()
        self._since: dict[Any, tuple[object, float]] = {}
        self._untold: Counter[str] = Counter()
        self._told_s = -SAY_AGAIN_S

    def take(self) -> bool:
        """From the next connection on. False: uvicorn speaks HTTP by a class that is not known."""
        base = self._config.http_protocol_class
        if base.__module__ not in _KNOWN:
            logger.warning("Scorpio: connections are not bounded: %s is not known", base)
            return False
        self._config.http_protocol_class = _guarded(base, self)
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                self.look(time.monotonic())
                await self._end_long(time.monotonic())
            except Exception:  # looking must never end, nor take the server with it
                logger.exception("Scorpio: the connections could not be looked at")

    def why_not(self, transport: Any) -> str:
        """Why this new connection is turned away; "" = it may stay."""
        settings = self._server.settings
        if len(self._open) >= (settings.most_connections or _most_by_descriptors()):
            return TOO_MANY
        most = settings.most_connections_per_address
        if most is not None and (address := _address(transport)):
            if self._by_address[address] >= most:
                return PER_ADDRESS
            self._by_address[address] += 1  # counted anew at each look
        return ""

    def left(self, transport: Any) -> None:
        """A connection that stayed has ended."""
        if self._server.settings.most_connections_per_address is not None:
            self._by_address[_address(transport)] -= 1

    def too_large(self, count: int, cycle: Any) -> bool:
        """Is this more than may come between two requests? Headers, and what is left of a body."""
        rest = self._server.in_flight.caps.body_bytes if _has_rest(cycle) else 0
        return count > self._server.settings.most_header_kib * _KIB + rest

    def count(self, why: str) -> None:
        """One connection was closed by us."""
        count_closed(self._server, why)
        self._untold[why] += 1

    def look(self, now_s: float) -> None:
        """Close those that have been waited for too long; say so now and then."""
        before, self._since = self._since, {}
        settings = self._server.settings
        most_s = {
            HEADER: settings.most_header_s,
            BODY: settings.most_body_s + _GRACE_S,
            UNREAD: settings.most_unread_s,
        }
        counts: Counter[str] = Counter()
        for one in list(self._open):
            if settings.most_connections_per_address is not None:
                counts[_address(one.transport)] += 1
            if (waits := _waits_for(one)) is None:
                continue
            was, since_s = before.get(one, (None, now_s))
            since_s = since_s if was == waits else now_s
            if now_s - since_s < most_s[waits[0]]:
                self._since[one] = waits, since_s
                continue
            self.count(waits[0])
            one.transport.abort()  # a close would wait for a client that does not read
        self._by_address = counts
        self._tell(now_s)

    def _tell(self, now_s: float) -> None:
        if self._untold and now_s - self._told_s >= SAY_AGAIN_S:
            told = ", ".join(f"{why} {count}" for why, count in sorted(self._untold.items()))
            logger.warning("Scorpio: connections closed: %s", told)
            self._told_s, self._untold = now_s, Counter()

    async def _end_long(self, now_s: float) -> None:
        """Requests that take longer than the operator allows: 504, or an error event."""
        most_s = self._server.settings.most_request_s
        if not most_s:
            return
        gates = self._server.flights.gates
        late = [gate for gate in gates if now_s - gate.begun_s >= most_s and not gate.ended]
        for _ in late:
            count_answered(self._server, 504, OVER_TIME)
        said = f"the request took longer than this server allows: {most_s:g} s"
        # It would take as long again.
        never = {"x-should-retry": "false", "x-scorpio-reject-reason": OVER_TIME}
        await end_requests(self._server, late, partial(error_answer, 504, said, headers=never))


def _waits_for(one: Any) -> tuple[str, object] | None:
    """What uvicorn waits for from this client, with what changes when it comes; None: for nothing
    that is looked at here (a WebSocket, an answer, the next request of a connection kept alive)."""
    cycle = getattr(one, "cycle", one)
    if cycle is one:
        return None
    if cycle is None or cycle.response_complete:
        if one.timeout_keep_alive_task is not None:
            return None
        return (BODY if _has_rest(cycle) else HEADER), id(cycle)
    if one.flow.write_paused:
        return UNREAD, (id(cycle), one.transport.get_write_buffer_size())
    if cycle.more_body and not cycle.response_started and not one.flow.read_paused:
        return BODY, id(cycle)
    return None


def _has_rest(cycle: Any) -> bool:
    """Answered before its body was whole: what comes is the rest of it."""
    return cycle is not None and bool(cycle.more_body)


def _address(transport: Any) -> str:
    """Of the client; of IPv6 the /64, for a client has all of it. "": a socket file."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return ""
    address = ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or IPv6Network((address, 64), strict=False))


def _most_by_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else int(soft * _OF_DESCRIPTORS)


def _turned_away(why: str) -> bytes:
    if why == HEADER_SIZE:
        answer = error_answer(431, "the headers are too large")
    else:
        headers = {"retry-after": "5", "x-scorpio-reject-reason": f"connections_{why}"}
        answer = error_answer(503, "too many connections", headers=headers)
    return _raw(answer)


def _raw(answer: Answer) -> bytes:
    """As HTTP/1.1, where no request has come to the application."""
    phrase = HTTPStatus(answer.status).phrase
    fields = {**answer.headers, "content-type": "application/json", "connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{k}: {v}" for k, v in fields.items())]
    head = "\r\n".join([*lines, f"content-length: {len(answer.body)}"])
    return head.encode() + b"\r\n\r\n" + answer.body


def _guarded(base: Any, connections: Connections) -> type:
    """uvicorn's protocol class (of httptools or of h11), with the question at its door."""

    class Guarded(base):
        _away = ""
        _header_bytes = 0

        def connection_made(self, transport: Any) -> None:
            self._away = connections.why_not(transport)
            if self._away:
                self._turn_away(transport)
            else:
                super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if self._away:
                return
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._header_bytes = 0
                return
            self._header_bytes += len(data)
            large = connections.too_large(self._header_bytes, self.cycle)
            if large and not self.transport.is_closing():
                self._away = HEADER_SIZE
                self._turn_away(self.transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._away and self._away != HEADER_SIZE:
                return
            connections.left(self.transport)
            super().connection_lost(exc)

        def _turn_away(self, transport: Any) -> None:
            connections.count(self._away)
            transport.write(_turned_away(self._away))
            transport.close()

    return Guarded
