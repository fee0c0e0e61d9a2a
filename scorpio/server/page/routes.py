"""What answers under /scorpio/? The page, open and without data, and its data for who may see them.

A browser sends no bearer token when it opens a page, so page, style and script are open to all and
say nothing of the server. The data want the token of SCORPIO_ADMIN_TOKEN in a header, unless the
operator has opened them (`open_status_page`); a token never stands in a URL.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib.resources import files

from starlette.types import Receive, Scope, Send

from scorpio.server.answers import Answer, error_answer, send_answer
from scorpio.server.page.listening import Listeners
from scorpio.server.request.slo_headers import first_headers

ROOT_PATH = "/scorpio/"
DATA_PATH = "/scorpio/page.json"
EVENTS_PATH = "/scorpio/events"
ACCESS_PATH = "/scorpio/access"  # of a server; a fleet's front passes it on
BARE_PATH = "/scorpio"
_FILES = {
    ROOT_PATH: ("index.html", "text/html; charset=utf-8"),
    "/scorpio/page.css": ("page.css", "text/css; charset=utf-8"),
    "/scorpio/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
PAGE_PATHS = frozenset((*_FILES, BARE_PATH, DATA_PATH, EVENTS_PATH))
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
Source = Callable[[Mapping[str, str]], Awaitable[Answer]]


class PageRoutes:
    """source: the data, or why not, for a request with these headers. Never raises."""

    def __init__(self, source: Source, listeners: Listeners) -> None:
        self._source, self._listeners = source, listeners

    async def respond(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        """To a request for one of PAGE_PATHS."""
        if scope["method"] not in ("GET", "HEAD"):
            answer = error_answer(405, f"{path} takes GET", headers={"allow": "GET, HEAD"})
        elif path == BARE_PATH:
            answer = Answer(308, b"", {"location": "scorpio/"})
        elif path in _FILES:
            answer = await asyncio.to_thread(_file, path)
        else:
            ask = functools.partial(self._source, first_headers(scope["headers"]))
            answer = await ask()
            if path == EVENTS_PATH and answer.status == 200 and scope["method"] == "GET":
                if not self._listeners.full:
                    await self._listeners.stream(answer, ask, _raw(_no_store()), receive, send)
                    return
                said = f"{self._listeners.most} pages listen already: ask {DATA_PATH} instead"
                answer = error_answer(503, said, headers={"retry-after": "10"})
            answer = replace(answer, headers={**answer.headers, **_no_store()})
        await send_answer(send, replace(answer, headers={**_HEADERS, **answer.headers}))


@functools.cache
def _file(path: str) -> Answer:
    name, kind = _FILES[path]
    body = files("scorpio.server.page").joinpath(name).read_bytes()
    return Answer(200, body, {"content-type": kind, "cache-control": "no-cache"})


def _no_store() -> dict[str, str]:
    return {"cache-control": "no-store"}


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode()) for k, v in {**_HEADERS, **headers}.items()]
