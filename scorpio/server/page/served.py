"""Who may see the data of this server's page, and where do they come from?"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping

from scorpio.server.accounts.admin_token import TOKEN_VARIABLE, deny
from scorpio.server.answers import Answer, error_answer, json_answer
from scorpio.server.context import ServerContext
from scorpio.server.page.content import page_content
from scorpio.server.page.listening import Listeners
from scorpio.server.page.recent import LedgerEnd
from scorpio.server.page.routes import PageRoutes
from scorpio.server.page.verdict import judged

logger = logging.getLogger("vllm.scorpio")
STREAM_S = 3600.0
_FRESH_S = 1.0  # so long one content serves all that ask


class ServedPage:
    """The page of one server."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._ledger = LedgerEnd(server.settings.run_dir, server.status.engines)
        self._turn = asyncio.Lock()
        self._made: tuple[float, Answer] = (float("-inf"), Answer(503, b""))
        self.routes = PageRoutes(self.data, Listeners(self._over, STREAM_S))

    async def data(self, headers: Mapping[str, str]) -> Answer:
        """For a request with these headers."""
        if (denied := page_denied(self._server, headers)) is not None:
            return denied
        async with self._turn:
            if time.monotonic() - self._made[0] >= _FRESH_S:
                self._made = (time.monotonic(), await self._make())
            return self._made[1]

    async def _make(self) -> Answer:
        try:
            entries = await asyncio.to_thread(self._ledger.entries)
            content = page_content(self._server, entries, round(time.time(), 3))
            return Answer(200, json.dumps(judged(content), allow_nan=False).encode())
        except Exception as error:  # the page is nothing that a server may fail of
            self._server.history.failed("the status page could not be made")
            return error_answer(500, f"the page could not be made: {type(error).__name__}")

    def _over(self) -> bool:
        """A server that ends waits for no listener."""
        uvicorn_server = self._server.http_server
        ending = uvicorn_server is not None and uvicorn_server.should_exit
        return ending or self._server.flights.draining


def access_answer(server: ServerContext) -> Answer:
    """What a page has to show for the data: `open`, `token`, or `off` as there is none to show."""
    if server.settings.open_status_page:
        return json_answer(200, {"access": "open"})
    return json_answer(200, {"access": "token" if server.environ.get(TOKEN_VARIABLE) else "off"})


def page_denied(server: ServerContext, headers: Mapping[str, str]) -> Answer | None:
    """None when this request may have the data; else why not."""
    if server.settings.open_status_page:
        return None
    if not server.environ.get(TOKEN_VARIABLE):
        return error_answer(
            403,
            f"closed: start the server with {TOKEN_VARIABLE} set, or with open_status_page = true",
        )
    return deny(headers, server.environ)
