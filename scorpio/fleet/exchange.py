"""What becomes of a request at one replica? It is answered there, or another may try.

Nothing is passed on to the client before it is sure that this replica answers: a refusal, a replica
that drains and a connection that breaks before the first byte leave the client none the wiser. The
replica itself holds a stream until its first token (scorpio/server/request/gate.py), so a 200 here
is one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from starlette.types import Scope, Send
from yarl import URL

from scorpio.core.plan import BUSY
from scorpio.fleet.members import Member
from scorpio.server.answers import RawHeaders, error_answer, error_event

logger = logging.getLogger("scorpio.fleet")
MOST_HELD: Final = 32 << 20  # bytes of an answer that is not a stream, held until it is complete
CONNECT_S: Final = 2.0
REPLICA_HEADER: Final = b"x-scorpio-replica"
# Of a connection, not of a message (RFC 9110, 7.6.1); a body that was read has a length of its own.
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
     b"transfer-encoding", b"upgrade", b"host", b"content-length")
)  # fmt: skip
_OURS = _HOP | {b"date", b"server"}  # of a response: said by who sends it to the client
_REASON: Final = "x-scorpio-reject-reason"
_BUSY = frozenset(reason.value for reason in BUSY)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request as it is sent on. anthropic: error envelope of its route."""

    scope: Scope
    body: bytes
    anthropic: bool = False

    def headers(self, more: RawHeaders) -> list[tuple[str, str]]:
        """Of the client, without those of its connection, and these in the place of theirs."""
        replaced = {name for name, _ in more}
        kept = [
            (name.lower(), value)
            for name, value in self.scope["headers"]
            if name.lower() not in _HOP and name.lower() not in replaced
        ]
        return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in [*kept, *more]]


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """The client has seen nothing of what this member did. why: refused, unavailable (it says so
    itself), failed (an error inside), lost (no answer). status, headers, body: what it said; 0 when
    it is lost."""

    member: str
    why: str
    status: int = 0
    headers: RawHeaders = field(default_factory=list)
    body: bytes = b""

    @property
    def retry_after_s(self) -> float:
        """What a refusal said; inf when it said nothing of coming back."""
        said = dict(self.headers).get(b"retry-after-ms", b"")
        return int(said) / 1000 if said.isdigit() else math.inf


async def exchange(
    session: ClientSession,
    member: Member,
    outgoing: Outgoing,
    send: Send,
    more: RawHeaders,
    told: RawHeaders,
) -> NotAnswered | None:
    """Ask one replica. None: the client has been answered, completely or to a broken end. more:
    headers for the replica; told: for the client, with what it answers."""
    gone = asyncio.ensure_future(member.gone.wait())
    work = asyncio.ensure_future(_ask(session, member, outgoing, send, more, told))
    member.in_work += 1
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel("gone")
        return await work
    finally:
        member.in_work -= 1
        gone.cancel()
        work.cancel()


async def _ask(
    session: ClientSession,
    member: Member,
    outgoing: Outgoing,
    send: Send,
    more: RawHeaders,
    told: RawHeaders,
) -> NotAnswered | None:
    began = False
    try:
        async with session.request(
            outgoing.scope["method"],
            target(member, outgoing.scope),
            headers=outgoing.headers(more),
            data=outgoing.body or None,
            allow_redirects=False,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_S),
        ) as response:
            start = _start(response, member, told)
            if (why := _retryable(response)) is not None:
                body = await response.read()
                return NotAnswered(member.name, why, response.status, start["headers"], body)
            held: list[bytes] = []
            streamed = _is_stream(response)
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
                if not began and not streamed and size <= MOST_HELD:
                    held.append(part)
                    continue
                if not began:
                    began = True
                    await send(start)
                    for earlier in held:
                        await _pass(send, earlier)
                await _pass(send, part)
            if not began:
                began = True
                await send(start)
            body = b"".join(held) if size <= MOST_HELD else b""
            await send({"type": "http.response.body", "body": body, "more_body": False})
            return None
    except (ClientError, TimeoutError, OSError, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and error.args != ("gone",):
            raise  # the client has left
        logger.warning("replica %s: %r", member.name, error)
        if not began:
            return NotAnswered(member.name, "lost")
        await _break_off(send, outgoing, member)
        return None


async def _break_off(send: Send, outgoing: Outgoing, member: Member) -> None:
    """The end of an answer that has begun and will not be completed."""
    said = f"the replica that served this request ({member.name}) is gone: send it again"
    event = error_event(
        error_answer(503, said, anthropic=outgoing.anthropic), anthropic=outgoing.anthropic
    )
    await send({"type": "http.response.body", "body": event, "more_body": False})


async def _pass(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def target(member: Member, scope: Scope) -> URL:
    """Its address at this replica."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string", b"")
    target = path.split(b"?", 1)[0] + (b"?" + query if query else b"")
    return URL(member.url + target.decode("latin-1"), encoded=True)


def _start(response: ClientResponse, member: Member, told: RawHeaders) -> dict[str, Any]:
    raw: Iterable[tuple[bytes, bytes]] = response.raw_headers
    headers = [(name.lower(), value) for name, value in raw if name.lower() not in _OURS]
    if not _is_stream(response) and (length := response.headers.get("content-length")):
        headers.append((b"content-length", length.encode()))
    headers += [(REPLICA_HEADER, member.name.encode()), *told]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _is_stream(response: ClientResponse) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


def _retryable(response: ClientResponse) -> str | None:
    """May another replica do better? Why, or None."""
    reason = response.headers.get(_REASON, "")
    if reason in _BUSY:
        return "refused"
    if response.status == 503:
        return "unavailable"
    return "failed" if response.status in (500, 502, 504) else None
