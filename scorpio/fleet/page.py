"""What does the status page show of a fleet? The pages of all replicas as one.

A replica's data are asked for with the token that came with the request: who may see each of them
may see them together, and this front need not know the token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from scorpio.fleet.members import Member, Members
from scorpio.server.answers import Answer, error_answer
from scorpio.server.page.content import FORM
from scorpio.server.page.listening import Listeners
from scorpio.server.page.recent import MOST_DECISIONS, MOST_PAIRS, most_active
from scorpio.server.page.routes import DATA_PATH, PageRoutes
from scorpio.server.page.verdict import JUDGED, judged
from scorpio.server.state.merged_status import merged

logger = logging.getLogger("scorpio.fleet")
ASK_S = 4.0
# A stream that lasts holds up the end of a front, which is not told of it: a page asks again.
STREAM_S = 10.0
_FRESH_S = 1.0
_BY_HAND = ("at_unix_s", "since_s", "server", "engines", "recent")  # what does not add up


class FleetPage:
    """The page of the replicas that this front knows."""

    def __init__(self, session: ClientSession, members: Members) -> None:
        self._session, self._members = session, members
        self._turn = asyncio.Lock()
        self._made: tuple[float, str, Answer] = (float("-inf"), "", Answer(503, b""))
        self.routes = PageRoutes(self.data, Listeners(lambda: False, STREAM_S))

    async def data(self, headers: Mapping[str, str]) -> Answer:
        """For a request with these headers; one answer serves all that ask with the same token."""
        token = headers.get("authorization", "")
        async with self._turn:
            made_s, of, answer = self._made
            if of != token or time.monotonic() - made_s >= _FRESH_S:
                answer = await self._make({"authorization": token} if token else {})
                if answer.status == 200:
                    self._made = (time.monotonic(), token, answer)
            return answer

    async def _make(self, headers: Mapping[str, str]) -> Answer:
        asked = list(self._members.by_name.values())
        answers = await asyncio.gather(*(self._ask(member, headers) for member in asked))
        told = {m.name: content for m, (_, content) in zip(asked, answers, strict=True) if content}
        if not told:
            refusal = next((answer for answer, _ in answers if answer is not None), None)
            return refusal or error_answer(503, "no replica answers: there is nothing to show")
        try:
            content = judged(together(told, asked, round(time.time(), 3)))
            return Answer(200, json.dumps(content, allow_nan=False).encode())
        except Exception as error:
            logger.exception("the status page could not be made")
            said = f"the replicas' pages do not make one: {type(error).__name__}"
            return error_answer(500, said)

    async def _ask(
        self, member: Member, headers: Mapping[str, str]
    ) -> tuple[Answer | None, dict[str, Any] | None]:
        """Its content, or why it says none."""
        try:
            async with self._session.get(
                member.url + DATA_PATH, headers=headers, timeout=ClientTimeout(total=ASK_S)
            ) as response:
                raw = await response.read()
                if response.status in (401, 403):
                    return Answer(response.status, raw), None
                content = json.loads(raw) if response.status == 200 else None
        except (ClientError, TimeoutError, OSError, ValueError):
            return None, None
        of_ours = isinstance(content, dict) and content.get("form") == FORM
        return None, content if of_ours else None


def together(
    told: Mapping[str, Mapping[str, Any]], asked: Sequence[Member], now_unix_s: float
) -> dict[str, Any]:
    """Contents of replicas as that of one server; not judged yet. told: of those that answer."""
    contents = list(told.values())
    adding = [_adding(content) for content in contents]
    states = {member.name: member.state.value for member in asked}
    all_well = "ok" in states.values()
    return {
        **merged(adding),
        "at_unix_s": now_unix_s,
        "since_s": max(content["since_s"] for content in contents),
        "server": {
            "model": contents[0]["server"]["model"],
            "state": "ok" if all_well else next(iter(states.values())),
            "out": [f"{name} is {state}" for name, state in states.items() if state != "ok"],
            "of": f"{len(asked)} replicas, {sum(s == 'ok' for s in states.values())} take requests",
        },
        "engines": [
            row for name, state in states.items() for row in _engines(name, state, told.get(name))
        ],
        "recent": _recent(told),
    }


def _adding(content: Mapping[str, Any]) -> dict[str, Any]:
    """What adds up: neither what is put together by hand, nor what is judged of the whole."""
    classes = {
        label: {key: value for key, value in entry.items() if key not in JUDGED}
        for label, entry in content["classes"].items()
    }
    kept = {k: v for k, v in content.items() if k not in JUDGED and k not in _BY_HAND}
    return {**kept, "classes": classes}


def _engines(name: str, state: str, content: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A replica's own word counts, but for what the front knows better."""
    if content is None:
        nothing = dict.fromkeys(
            ("running", "waiting", "seats", "kv_tokens", "kv_held_tokens", "heard_unix_s"), 0
        )
        return [{"name": name, "state": f"{state}: says nothing", "policy": "", **nothing}]
    rows = content["engines"]
    several = len(rows) > 1
    return [
        {
            **row,
            "name": f"{name}/{row['name']}" if several else name,
            "state": row["state"] if state == "ok" else state,
        }
        for row in rows
    ]


def _recent(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each replica has a salt of its own, so a tenant has another name on each."""
    known = {name: content["recent"] for name, content in told.items()}
    decisions = [
        {**one, "key": f"{name} {one['key']}", "engine": f"{name}/{one['engine']}"}
        for name, recent in known.items()
        for one in recent["decisions"]
    ]
    tenants = [
        {**row, "tenant": f"{row['tenant'] or 'no name'} on {name}"}
        for name, recent in known.items()
        for row in recent["tenants"]
    ]
    each = MOST_PAIRS // len(known)
    since = [r["since_unix_s"] for r in known.values() if r["since_unix_s"] is not None]
    return {
        "requests": sum(recent["requests"] for recent in known.values()),
        "since_unix_s": min(since, default=None),
        "decisions": sorted(decisions, key=lambda one: -one["ended_unix_s"])[:MOST_DECISIONS],
        "pairs": {
            kind: [pair for recent in known.values() for pair in recent["pairs"][kind][-each:]]
            for kind in ("ttft", "tpot")
        },
        "tenants": most_active(tenants),
    }
