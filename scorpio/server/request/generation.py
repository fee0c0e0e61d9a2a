"""What happens to one request for tokens? Bounded, folded, ticketed; its response passes a gate."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from starlette.types import ASGIApp, Receive, Scope, Send

from scorpio.core.plan import RejectReason
from scorpio.core.slo import NO_SLO, Slo, SloError
from scorpio.core.wire import RejectionNotice
from scorpio.server.accounts.door import account_of
from scorpio.server.accounts.in_flight import (
    BodyTimeoutError,
    BodyTooLargeError,
    OverQuotaError,
    QueueFullError,
    Slot,
    read_body,
)
from scorpio.server.accounts.tenant_use import OverRateError, OverTightError, Visit
from scorpio.server.accounts.terms import Tenant, Terms
from scorpio.server.answers import (
    Answer,
    RawHeaders,
    bad_request,
    error_answer,
    send_answer,
    slow_body_answer,
)
from scorpio.server.context import ServerContext
from scorpio.server.quote.desk import QuoteDesk
from scorpio.server.request.endpoints import Endpoint
from scorpio.server.request.gate import ResponseGate
from scorpio.server.request.rejection import OVER_RATE, limit_answer, refusal_answer
from scorpio.server.request.request_body import Folded, fold, replay
from scorpio.server.request.slo_headers import QUOTE_HEADER, NotAllowedError, first_headers
from scorpio.server.request.ticket import CURRENT, Sent, Ticket
from scorpio.server.state import metrics
from scorpio.server.state.engine_watch import refused_at_once

SLOW_BODY = "slow_body"


async def generate(
    app: ASGIApp,
    server: ServerContext,
    endpoint: Endpoint,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Serve one request on a generating route."""
    account, headers = account_of(server, scope), first_headers(scope["headers"])
    terms = server.terms
    tenant = terms.tenant_of(account, headers)
    name, most = (
        (account, None) if tenant is None else (tenant.name, tenant.settings.most_in_flight)
    )
    with server.in_flight.slot(name, most) as slot, server.uses.visit(tenant) as visit:
        client = Client(account, tenant, terms, slot, visit, headers.get(QUOTE_HEADER, ""))
        accepted = await _accept(server, endpoint, scope, receive, client, headers)
        if isinstance(accepted, Answer):
            await send_answer(send, accepted)
        elif accepted is not None:
            folded, body = accepted
            if folded.body is not None:
                scope = _with_length(scope, len(body))
            receive = replay(body, receive)
            folded, accepted, body = replace(folded, body=None), None, b""  # it may be large
            await _through_gate(app, server, endpoint, scope, receive, send, (folded, client))


async def _accept(
    server: ServerContext,
    endpoint: Endpoint,
    scope: Scope,
    receive: Receive,
    client: Client,
    headers: dict[str, str],
) -> tuple[Folded, bytes] | Answer | None:
    """What it asks for and the body for vLLM; or why not; None when the client has left."""
    in_flight, anthropic, slot = server.in_flight, endpoint.anthropic_errors, client.slot
    try:
        in_flight.take(slot, 1)
        hold = partial(in_flight.hold, slot)
        caps = in_flight.caps
        raw = await read_body(scope, receive, caps.body_bytes, hold, caps.body_s)
        if raw is None:
            return None
        rules = client.terms.rules_of(client.tenant)
        folded = fold(raw, headers, endpoint, rules, client.account)
        if folded.parts > (most := in_flight.most(slot)):
            raise SloError("prompt", f"this server gives at most {most} answers at once")
        in_flight.take(slot, folded.parts)
        client.enter(folded, len(raw) if endpoint.xargs_path is not None else 0)  # else: sound
    except (OverRateError, OverTightError, OverQuotaError) as error:
        return _over_limit(server, error, anthropic)
    except NotAllowedError as error:
        return error_answer(403, str(error), param=error.field, anthropic=anthropic)
    except SloError as error:
        metrics.count_malformed(server, error.field)
        message = f"{error.field}: {error.message}"
        return bad_request(message, error.field, anthropic=anthropic)
    except QueueFullError:
        retry_ms = in_flight.retry_after_ms()
        notice = RejectionNotice(RejectReason.QUEUE_FULL, retry_ms, None)
        return _refusal(server, endpoint, NO_SLO, notice)
    except BodyTooLargeError as error:
        return error_answer(413, str(error), anthropic=anthropic)
    except BodyTimeoutError:
        metrics.count_answered(server, 408, SLOW_BODY)
        return slow_body_answer(anthropic)
    if folded.foreign_objective:
        metrics.count_foreign_objective(server)
    return folded, raw if folded.body is None else folded.body


@dataclass(frozen=True, slots=True)
class Client:
    """Whose request it is, under which terms, and what it takes."""

    account: str
    tenant: Tenant | None
    terms: Terms
    slot: Slot
    visit: Visit
    quote_token: str = ""

    def enter(self, folded: Folded, body_bytes: int) -> None:
        """Raises OverRateError, OverTightError."""
        most = None if self.tenant is None else self.tenant.settings.most_tight
        tight = folded.parts if self.terms.is_tight(folded.slo) else 0
        self.visit.enter(body_bytes, tight, most)

    def ticket(self, folded: Folded, must_wait: bool, deadline_s: float, desk: QuoteDesk) -> Ticket:
        """For the engine and back."""
        quote = None
        if self.quote_token and folded.parts == 1:
            quote = desk.taken(self.quote_token, self.account, folded.slo)
        body = uuid4().hex if folded.parts > 1 else ""
        return Ticket(
            must_wait,
            folded.tenant,
            folded.text,
            deadline_s,
            body,
            weight=self.terms.weight_of(self.tenant),
            slo=self.terms.slo_told(folded.slo, folded.slo_class),
            visit=self.visit if self.visit.use is not None else None,
            sent=Sent(desk, folded.slo, quote),
        )


def _over_limit(
    server: ServerContext,
    error: OverRateError | OverTightError | OverQuotaError,
    anthropic: bool,
) -> Answer:
    if isinstance(error, OverRateError):
        reason, wait_ms = OVER_RATE, error.wait_s * 1e3
    else:
        reason, wait_ms = RejectReason.OVER_QUOTA.value, server.in_flight.retry_after_ms()
    metrics.count_answered(server, 429, reason)
    return limit_answer(reason, str(error), wait_ms, anthropic=anthropic)


async def _through_gate(
    app: ASGIApp,
    server: ServerContext,
    endpoint: Endpoint,
    scope: Scope,
    receive: Receive,
    send: Send,
    accepted: tuple[Folded, Client],
) -> None:
    folded, client = accepted

    def policy_header() -> RawHeaders:
        return [(b"x-scorpio-policy", quote(server.policy, errors="replace").encode())]

    must_wait = endpoint.xargs_path is None
    may_refuse = folded.slo.refusable and not must_wait
    if may_refuse and (answer := refused_at_once(server, anthropic=endpoint.anthropic_errors)):
        await send_answer(send, answer)
        return
    deadline_s = first_token_deadline_s(folded.slo) if may_refuse else math.inf
    ticket = client.ticket(folded, must_wait, deadline_s, server.quotes)

    def refuse(notice: RejectionNotice) -> Answer:
        return _refusal(server, endpoint, folded.slo, notice, ticket.request_id, folded.words)

    gate = ResponseGate(send, ticket, refuse, policy_header, endpoint.anthropic_errors, may_refuse)
    token = CURRENT.set(ticket)
    try:
        traced: AbstractContextManager[Scope] = nullcontext(scope)
        if server.traces is not None:
            told = folded.slo, folded.slo_class, server.policy, ticket
            traced = server.traces.request(scope, *told)
        with traced as seen, server.flights.generation(gate):
            await app(seen, receive, gate)
    except Exception:
        if not await gate.failed():
            raise
    else:
        await gate.finish()
    finally:
        CURRENT.reset(token)


def first_token_deadline_s(slo: Slo) -> float:
    """When a request that came now is too late to be worth its first token (time.monotonic)."""
    return time.monotonic() + min(slo.ttft_s, slo.e2e_s)


def _refusal(
    server: ServerContext,
    endpoint: Endpoint,
    slo: Slo,
    notice: RejectionNotice,
    request_id: str = "",
    words: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    status, anthropic = server.settings.rejection_status, endpoint.anthropic_errors
    metrics.count_answered(server, status, notice.reason.value)
    return refusal_answer(
        notice, slo, status, anthropic=anthropic, request_id=request_id, words=words
    )


def _with_length(scope: Scope, length: int) -> dict[str, Any]:
    """The scope of a request whose body was written again."""
    framing = (b"content-length", b"transfer-encoding")
    headers = [(k, v) for k, v in scope["headers"] if k.lower() not in framing]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}
