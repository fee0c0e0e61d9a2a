"""What do all replicas say together? Status, metrics, and acts that concern each of them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from starlette.types import Scope

from scorpio.core.routing.fallback import Deployments
from scorpio.fleet.exchange import Outgoing, target
from scorpio.fleet.members import Member, Members, State
from scorpio.server.answers import Answer, error_answer, json_answer
from scorpio.server.request.endpoints import route_path
from scorpio.server.state.merged_status import merged

logger = logging.getLogger("scorpio.fleet")
MODELS_PATH = "/v1/models"
ASK_S = 5.0
ACT_S = 60.0
# Adapters are of the first deployment's model.
_OF_THE_FIRST = frozenset(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"))
# vLLM's and our own acts on an engine: done on one replica, the fleet would be half changed.
ACTS = frozenset(
    (
        *("/scorpio/policy", "/scorpio/config", "/scorpio/off", "/collective_rpc"),
        *_OF_THE_FIRST,
        *("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/sleep", "/wake_up"),
        *("/pause", "/resume", "/start_profile", "/stop_profile"),
    )
)
_FACTS = ("engine", "in_force", "engines")  # of a status: the same for all, no counts
_KEPT = ("www-authenticate", "allow", "retry-after")
_SAMPLE = re.compile(rb"^([a-zA-Z_:][\w:]*)(\{)?", re.ASCII)
_OF_FAMILY = re.compile(rb"^# (?:HELP|TYPE) ([\w:]+)", re.ASCII)


async def fleet_status(session: ClientSession, members: Members, router: str) -> Answer:
    """All together as on one machine (merged_status.py), and each by itself."""
    asked = list(members.by_name.values())
    answers = await _ask_each(session, asked, "/scorpio/status")
    states = {m.name: answer for m, answer in zip(asked, answers, strict=True)}
    known = [state for state in states.values() if isinstance(state, dict)]
    together = merged(known) if known else {}
    together |= {name: known[0][name] for name in _FACTS if known and name in known[0]}
    content: dict[str, Any] = {
        "router": router,
        **_fallback(members.deployments),
        "replicas": {
            m.name: {
                "url": m.url,
                "state": m.state.value,
                "fallback": m.fallback,
                "in_work": m.in_work,
                "load": next((e["load"] for e in m.told.get("engines", [])), None),
                "status": states[m.name],
            }
            for m in asked
        },
    }
    return json_answer(200, together | content)


def _fallback(deployments: Deployments) -> dict[str, Any]:
    """Of this front: by class, requests that came, those that fell back, and the ceiling."""
    if not deployments.name:
        return {}
    classes = {
        name: {"came": one.came, "fell_back": one.fell, "most_share": one.share}
        for name, one in deployments.ceilings.items()
    }
    return {"fallback": {"model": deployments.name, "classes": classes}}


async def fleet_metrics(session: ClientSession, members: Members, own: bytes) -> bytes:
    """Each replica's metrics with its name as a label, and this front's own."""
    asked = [m for m in members.by_name.values() if m.row is not None]
    texts = await asyncio.gather(*(_get(session, m, "/metrics") for m in asked))
    told = [(m.name, text) for m, text in zip(asked, texts, strict=True) if text is not None]
    return labelled(told) + own


def labelled(told: Iterable[tuple[str, bytes]]) -> bytes:
    """Prometheus texts as one: a family once, each sample with the label `replica`."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for replica, text in told:
        label = b'replica="' + replica.encode() + b'"'
        family: tuple[list[bytes], list[bytes]] = ([], [])
        for line in text.splitlines():
            if (head := _OF_FAMILY.match(line)) is not None:
                family = families.setdefault(head[1], ([], []))
                if line not in family[0]:
                    family[0].append(line)
            elif (sample := _SAMPLE.match(line)) is not None:
                rest = line[sample.end() :]
                labels = b"{" + label + (b"," if rest[:1] != b"}" else b"")
                family[1].append(
                    sample[1] + (labels + rest if sample[2] else b"{" + label + b"}" + rest)
                )
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    return b"".join(line + b"\n" for line in lines)


async def act_on_each(
    session: ClientSession, members: Members, scope: Scope, body: bytes
) -> Answer:
    """The same request to every replica. The answer is the first one that is an error, else the
    first; `replicas` says what each has answered."""
    there = [m for m in members.by_name.values() if m.row is not None]
    asked = [m for m in there if concerns(route_path(scope), m)]
    if not asked:
        return error_answer(503, "no replica is there yet")
    answers = await asyncio.gather(*(_act(session, m, Outgoing(scope, body)) for m in asked))
    worst = next((answer for answer in answers if answer.status >= 400), answers[0])
    said = {m.name: answer.status for m, answer in zip(asked, answers, strict=True)}
    content = worst.content if isinstance(worst.content, dict) else {"answer": worst.content}
    return json_answer(worst.status, content | {"replicas": said}, worst.headers)


async def try_on_each(
    session: ClientSession, members: Members, scope: Scope, body: bytes
) -> Answer:
    """The same act, tried only. In a rolling upgrade some replicas cannot try: then none is asked,
    and those that start later read the file anyway."""
    there = [m for m in members.by_name.values() if m.row is not None]
    if old := [m.name for m in there if not m.tries]:
        said = f"of an older Scorpio, which cannot try an SLO file: {', '.join(old)}"
        return error_answer(409, f"{said}; nothing has changed: ask again after the upgrade")
    return await act_on_each(session, members, {**scope, "query_string": b"dry_run=true"}, body)


async def fleet_models(session: ClientSession, members: Members, scope: Scope) -> Answer:
    """What may be named as `model`: of one replica of each deployment that answers, the first one's
    first."""
    both = (_models_of(session, members, fallback, scope) for fallback in (False, True))
    asked = [answer for answer in await asyncio.gather(*both) if answer is not None]
    if not asked:
        return error_answer(503, "no replica is there yet")
    answers = [answer for answer in asked if answer.status < 500] or asked
    for answer in answers:
        if answer.status != 200 or not isinstance(answer.content, dict):
            return json_answer(answer.status, answer.content, answer.headers)
    by_name: dict[str, Any] = {}
    for answer in answers:
        for entry in answer.content.get("data", []):
            by_name.setdefault(entry["id"], entry)  # the fallback has the first one's names, too
    return json_answer(200, {**answers[0].content, "data": list(by_name.values())})


async def _models_of(
    session: ClientSession, members: Members, fallback: bool, scope: Scope
) -> _Acted | None:
    """As its first replica says that can; else how the last one failed. None: it has none."""
    answer = None
    for member in list(members.by_name.values()):
        if member.state is State.OK and member.fallback == fallback:
            answer = await _act(session, member, Outgoing(scope, b""), ASK_S)
            if answer.status < 500:
                break
    return answer


async def greet(session: ClientSession, member: Member, acts: Iterable[Outgoing]) -> None:
    """Tell a replica that joins what was told the others. One that does not take it is told of in
    the log, and joins: it is asked no more."""
    for act in (one for one in acts if concerns(route_path(one.scope), member)):
        acted = await _act(session, member, act)
        if acted.status >= 400:
            path = act.scope["path"]
            logger.error("replica %s: %s: %s %s", member.name, path, acted.status, acted.content)


def concerns(path: str, member: Member) -> bool:
    """Is this act for it?"""
    return not (member.fallback and path in _OF_THE_FIRST)


@dataclass(frozen=True, slots=True)
class _Acted:
    status: int
    content: Any
    headers: Mapping[str, str] = field(default_factory=dict)


async def _act(
    session: ClientSession, member: Member, outgoing: Outgoing, most_s: float = ACT_S
) -> _Acted:
    try:
        async with session.request(
            outgoing.scope["method"],
            target(member, outgoing.scope),
            headers=outgoing.headers([]),
            data=outgoing.body or None,
            timeout=ClientTimeout(total=most_s),
        ) as response:
            raw, sent = await response.read(), response.headers
            is_json = "json" in sent.get("content-type", "")
            content = await response.json() if is_json else raw.decode(errors="replace")
            headers = {name: sent[name] for name in _KEPT if name in sent}
            return _Acted(response.status, content, headers)
    except (ClientError, TimeoutError, OSError, ValueError) as error:
        said = {"message": f"replica {member.name}: {error!r}", "code": 503}
        return _Acted(503, {"error": said})


async def _ask_each(
    session: ClientSession, asked: Sequence[Member], path: str
) -> list[Mapping[str, Any] | None]:
    async def ask(member: Member) -> Mapping[str, Any] | None:
        try:
            timeout = ClientTimeout(total=ASK_S)
            async with session.get(member.url + path, timeout=timeout) as response:
                told = await response.json()
        except (ClientError, TimeoutError, OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    return list(await asyncio.gather(*map(ask, asked)))


async def _get(session: ClientSession, member: Member, path: str) -> bytes | None:
    try:
        timeout = ClientTimeout(total=ASK_S)
        async with session.get(member.url + path, timeout=timeout) as response:
            return await response.read() if response.status == 200 else None
    except (ClientError, TimeoutError, OSError):
        return None
