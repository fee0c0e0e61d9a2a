"""What happens between the socket and vLLM? SLOs go in, refusals come out as HTTP.

`--middleware scorpio.server.middleware.ScorpioMiddleware`. Pure ASGI: no response is buffered
beyond its first token, and each later chunk is passed on as it is. vLLM puts it outside its own
middleware, so CORS, API keys and request ids work as without it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from scorpio.core.slo import SloError
from scorpio.core.tenant_share import tenant_id
from scorpio.core.wire import RejectionNotice
from scorpio.server import admin, metrics
from scorpio.server.answers import Answer, RawHeaders, bad_request, send_answer
from scorpio.server.context import ServerContext, attach_server
from scorpio.server.endpoints import ENDPOINTS, Endpoint, route_path, routed
from scorpio.server.gate import ResponseGate
from scorpio.server.rejection import refusal_answer
from scorpio.server.request_body import Folded, fold, read_body, replay
from scorpio.server.slo_headers import first_headers
from scorpio.server.ticket import CURRENT, IncompatibleServerError, Ticket
from scorpio.settings import SettingsError

logger = logging.getLogger("vllm.scorpio")


class ScorpioMiddleware:
    """ASGI middleware for vLLM's OpenAI server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._attached: ServerContext | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = routed(scope)
        path = route_path(scope)
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and scope["method"] == "POST":
            server = self._server(scope)
            if server.may_pass(scope):
                await self._generate(server, endpoint, scope, receive, send)
                return
        elif path in admin.METHODS:
            await self._admin(self._server(scope), path, scope, receive, send)
            return
        elif path == metrics.METRICS_PATH and scope["method"] == "GET":
            await metrics.serve_metrics(self._app, self._server(scope), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _server(self, scope: Scope) -> ServerContext:
        if self._attached is None:
            self._attached = attach_server(scope["app"])
        return self._attached

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the server before it serves: a wrong setting must not wait for a request."""
        try:
            self._server(scope)
        except (SettingsError, IncompatibleServerError) as error:
            logger.error("Scorpio: %s", error)
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await self._app(scope, receive, send)

    async def _admin(
        self, server: ServerContext, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer: Answer | None
        if scope["method"] != admin.METHODS[path]:
            answer = admin.wrong_method(path)
        elif path == admin.STATUS_PATH:
            answer = await asyncio.to_thread(admin.status_answer, server)
        else:
            answer = admin.deny(first_headers(scope["headers"]), server.environ)
            if answer is None:
                raw = await read_body(receive)
                if raw is None:
                    return
                answer = await asyncio.to_thread(admin.set_policy, server, raw)
        await send_answer(send, answer)

    async def _generate(
        self, server: ServerContext, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        account = server.account(scope)
        folded = Folded(None, server.book.default, tenant=tenant_id(account, ""))
        if endpoint.xargs_path is not None:
            headers = first_headers(scope["headers"])
            raw = await read_body(receive)
            if raw is None:
                return
            try:
                folded = fold(raw, headers, endpoint, server.book, account)
            except SloError as error:
                metrics.count_malformed(server, error.field)
                message = f"{error.field}: {error.message}"
                anthropic = endpoint.anthropic_errors
                await send_answer(send, bad_request(message, error.field, anthropic=anthropic))
                return
            if folded.foreign_objective:
                metrics.count_foreign_objective(server)
            if folded.body is not None:
                scope = _with_length(scope, len(folded.body))
            receive = replay(raw if folded.body is None else folded.body, receive)

        def refuse(notice: RejectionNotice) -> Answer:
            status = server.settings.rejection_status
            metrics.count_answered(server, status, notice.reason)
            return refusal_answer(notice, folded.slo, status, anthropic=endpoint.anthropic_errors)

        def policy_header() -> RawHeaders:
            return [(b"x-scorpio-policy", quote(server.policy, errors="replace").encode())]

        ticket = Ticket(endpoint.xargs_path is None, folded.tenant, folded.text)
        may_refuse = folded.slo.refusable and not ticket.must_wait
        gate = ResponseGate(
            send, ticket, refuse, policy_header, endpoint.anthropic_errors, may_refuse
        )
        token = CURRENT.set(ticket)
        try:
            await self._app(scope, receive, gate)
        except Exception:
            if not await gate.failed():
                raise
        else:
            await gate.finish()
        finally:
            CURRENT.reset(token)


def _with_length(scope: Scope, length: int) -> dict[str, Any]:
    """The scope of a request whose body was written again."""
    framing = (b"content-length", b"transfer-encoding")
    headers = [(k, v) for k, v in scope["headers"] if k.lower() not in framing]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}
