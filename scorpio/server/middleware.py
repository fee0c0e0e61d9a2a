"""What happens between the socket and vLLM? SLOs go in, refusals come out as HTTP.

`--middleware scorpio.server.middleware.ScorpioMiddleware`. Pure ASGI: no response is buffered
beyond its first token, and each later chunk is passed on as it is. vLLM puts it outside its own
middleware, so CORS, API keys and request ids work as without it.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from scorpio.server.accounts.admin_token import deny, fingerprint
from scorpio.server.accounts.audit import Act, note, remote_of
from scorpio.server.accounts.door import close_socket, is_ours, let_in
from scorpio.server.accounts.in_flight import BodyTimeoutError, BodyTooLargeError, read_body
from scorpio.server.accounts.kill_switch import OFF_PATH, OffSignal, turn
from scorpio.server.accounts.kill_switch import state as off_or_on
from scorpio.server.accounts.reload import Reloader
from scorpio.server.answers import Answer, error_answer, send_answer, slow_body_answer
from scorpio.server.connections import Connections
from scorpio.server.context import ServerContext, attach_server
from scorpio.server.drain import Drain, draining_answer
from scorpio.server.early_signals import signals_may_come
from scorpio.server.page.routes import ACCESS_PATH, PAGE_PATHS
from scorpio.server.page.served import ServedPage, access_answer
from scorpio.server.quote.route import QUOTE_PATH, quote_answer
from scorpio.server.request.endpoints import ENDPOINTS, route_path, routed
from scorpio.server.request.generation import generate
from scorpio.server.request.slo_headers import first_headers
from scorpio.server.request.ticket import IncompatibleServerError
from scorpio.server.state import admin
from scorpio.server.state.engine_watch import EngineWatch
from scorpio.server.state.health import HEALTH_PATH, health_answer
from scorpio.server.state.in_force import in_force, told
from scorpio.server.state.load import LOAD_PATH, load_answer
from scorpio.server.state.metrics import METRICS_PATH
from scorpio.server.state.scrape import serve_metrics
from scorpio.server.vllm_api import mark_engine_died
from scorpio.settings import SettingsError

logger = logging.getLogger("vllm.scorpio")
_LOOKS = ("GET", "HEAD", "OPTIONS")  # probes and scrapes: answered until the end, not waited for


class ScorpioMiddleware:
    """ASGI middleware for vLLM's OpenAI server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._attached: ServerContext | None = None
        self._served_page: ServedPage | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        admitted = let_in(self._server(scope), routed(scope))
        if scope["type"] == "websocket":
            if isinstance(admitted, Answer):
                await close_socket(receive, send)
            else:
                await self._app(admitted, receive, send)
            return
        if isinstance(admitted, Answer):
            await send_answer(send, admitted)
            return
        scope = admitted
        if scope["method"] in _LOOKS:
            await self._route(scope, receive, send)
            return
        flights = self._server(scope).flights
        if flights.draining:
            await send_answer(send, draining_answer(self._server(scope)))
            return
        with flights.call():
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        endpoint = ENDPOINTS.get(path)
        if endpoint is not None and scope["method"] == "POST":
            server = self._server(scope)
            if server.may_pass(scope):
                await generate(self._app, server, endpoint, scope, receive, send)
                return
        elif path == QUOTE_PATH and scope["method"] == "POST":
            server = self._server(scope)
            if server.may_pass(scope):
                answer = await quote_answer(self._app, server, scope, receive)
                if answer is not None:
                    await send_answer(send, answer)
                return
        elif is_ours(path) and (path in admin.METHODS or scope["method"] not in _LOOKS):
            await self._admin(self._server(scope), path, scope, receive, send)
            return
        elif path == HEALTH_PATH and scope["method"] in ("GET", "HEAD"):
            await send_answer(send, health_answer(self._server(scope)))
            return
        elif path == LOAD_PATH and scope["method"] == "GET":
            await send_answer(send, load_answer(self._server(scope)))
            return
        elif path == ACCESS_PATH and scope["method"] == "GET":
            await send_answer(send, access_answer(self._server(scope)))
            return
        elif path in PAGE_PATHS:
            await self._page(scope).routes.respond(scope, path, receive, send)
            return
        elif path == METRICS_PATH and scope["method"] == "GET":
            await serve_metrics(self._app, self._server(scope), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _server(self, scope: Scope) -> ServerContext:
        if self._attached is None:
            self._attached = attach_server(scope["app"])
        return self._attached

    def _page(self, scope: Scope) -> ServedPage:
        if self._served_page is None:
            self._served_page = ServedPage(self._server(scope))
        return self._served_page

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the server before it serves: a wrong setting must not wait for a request."""
        try:
            server = self._server(scope)
        except (SettingsError, IncompatibleServerError) as error:
            logger.error("Scorpio: %s", error)
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        for line in told(in_force(server)) if server.shared.rank == 0 else ():
            logger.info("Scorpio: %s", line)
        state = scope["app"].state
        drains = (timeout_s := state.vllm_config.shutdown_timeout) > 0  # 0: vLLM cuts at once
        if drains:
            Drain(server, state.server, timeout_s).take_signals()
        reloader = Reloader(server)
        reloader.take_signal()
        off_signal = OffSignal(server)
        off_signal.take()
        signals_may_come()
        beside = [EngineWatch(server).run(), reloader.run(), server.history.run()]
        if server.http_server is not None:
            connections = Connections(server, server.http_server)
            if connections.take():
                beside.append(connections.run())
        tasks = [asyncio.create_task(work) for work in beside]
        try:
            await self._app(scope, receive, send)
        finally:
            for task in tasks:
                task.cancel()
            server.leave()
            if drains and server.engine.errored and not server.flights.draining:
                mark_engine_died(state.args)

    async def _admin(
        self, server: ServerContext, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Our own routes: reading is open, all else needs the token, whether there is such an act
        or not."""
        answer: Answer | None
        looks = scope["method"] in _LOOKS
        if not looks:
            answer = deny(first_headers(scope["headers"]), server.environ)
            if answer is not None:
                await send_answer(send, answer)
                return
        if path not in admin.METHODS:
            answer = error_answer(404, f"there is no {path}")
        elif scope["method"] not in admin.METHODS[path]:
            answer = admin.wrong_method(path)
        elif path == admin.STATUS_PATH:
            answer = admin.status_answer(server)  # on this thread: its numbers change here
        else:
            answer = await _act(server, path, scope, receive)
            if answer is None:
                return
        await send_answer(send, answer)


async def _act(server: ServerContext, path: str, scope: Scope, receive: Receive) -> Answer | None:
    """Done, and written down; None when its client has left."""
    before = _state(server, path)
    if path == admin.CONFIG_PATH:
        answer: Answer | None = await admin.reload_config(server, admin.is_dry_run(scope))
    elif path == OFF_PATH:
        answer = await asyncio.to_thread(turn, server, scope["method"] == "PUT")
    else:
        answer = await _put(server, scope, receive)
    if answer is not None:
        after = admin.wished(answer) if path == admin.POLICY_PATH else _state(server, path)
        name, token = path.rpartition("/")[2], fingerprint(server.environ)
        act = Act(name, before, after, remote_of(scope), token, answer.status)
        await asyncio.to_thread(note, server.settings.run_dir, act)
    return answer


def _state(server: ServerContext, path: str) -> str:
    if path == OFF_PATH:
        return off_or_on(server)
    return server.terms.short_digest if path == admin.CONFIG_PATH else server.policy


async def _put(server: ServerContext, scope: Scope, receive: Receive) -> Answer | None:
    """The answer to PUT /scorpio/policy; None when its client has left."""
    try:
        most_s = server.settings.most_body_s
        raw = await read_body(scope, receive, admin.MAX_BODY_BYTES, most_s=most_s)
    except BodyTooLargeError as error:
        return error_answer(413, str(error))
    except BodyTimeoutError:
        return slow_body_answer()
    return None if raw is None else await asyncio.to_thread(admin.set_policy, server, raw)
