"""How do folded values get into the JSON body that vLLM will read? Parse, fold, write again.

Only JSON objects are touched, and only when something has to be added: every other body goes on
byte for byte, and vLLM answers it as it would without us (but for what would not reach the engine:
wire_safe.py). vLLM 0.32 reads a JSON body whole before it parses; so do we (in_flight.py has the
bound).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import Message, Receive

from scorpio.core.slo import Slo, SloError
from scorpio.core.tenants import tenant_id
from scorpio.server.request.choices import cannot_be_refused, parts
from scorpio.server.request.endpoints import Endpoint
from scorpio.server.request.prompt_text import NO_TEXT, PromptText, prompt_text
from scorpio.server.request.slo_headers import SloRules, resolve
from scorpio.server.request.wire_safe import check_body, check_xargs


@dataclass(frozen=True, slots=True)
class Folded:
    """body: what vLLM shall read, None = as received; slo: what was asked for; text: what the
    user says; tenant, foreign_objective, slo_class, words: as in `Stated`; parts: engine requests
    that vLLM will make of it."""

    body: bytes | None
    slo: Slo
    text: PromptText = NO_TEXT
    tenant: str = ""
    foreign_objective: bool = False
    parts: int = 1
    slo_class: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body once, then the client's own messages: vLLM waits there for
    the disconnect that aborts a request."""
    left: bytes | None = body
    del body  # the response may take minutes

    async def receive_again() -> Message:
        nonlocal left
        if left is None:
            return await receive()
        given, left = left, None
        return {"type": "http.request", "body": given, "more_body": False}

    return receive_again


def fold(
    raw: bytes,
    headers: dict[str, str],
    endpoint: Endpoint,
    rules: SloRules,
    account: str,
) -> Folded:
    """Fold headers and defaults into the body. Raises SloError naming the malformed field."""
    untouched = Folded(None, rules.book.default, tenant=tenant_id(account, ""))
    found = parsed(raw, headers, endpoint)
    if found is None or endpoint.xargs_path is None:
        return untouched
    body, holder = found
    key = endpoint.xargs_path[-1]
    given = holder.get(key)
    if given is not None and not isinstance(given, dict):
        return untouched  # vLLM's 400 names it
    check_xargs(key, given or {})
    stated = resolve(headers, body, given or {}, rules, account, cannot_be_refused(body))
    folded = Folded(
        None,
        stated.slo,
        prompt_text(body),
        stated.tenant,
        stated.foreign_objective,
        parts(body),
        stated.slo_class,
        stated.words,
    )
    if stated.xargs == (given or {}):
        return folded
    holder[key] = stated.xargs
    return replace(folded, body=json.dumps(body, separators=(",", ":")).encode())


def parsed(
    raw: bytes, headers: dict[str, str], endpoint: Endpoint
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """A JSON body, and the object in it that holds `vllm_xargs`; None when there is nothing to fold
    into. Raises SloError: vLLM would not read it."""
    if endpoint.xargs_path is None or not _is_json(headers.get("content-type", "")):
        return None
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    except RecursionError:
        raise SloError("body", "is nested too deep") from None
    if not isinstance(body, dict):
        return None
    check_body(raw, body)
    holder = _holder(body, endpoint.xargs_path)
    return None if holder is None else (body, holder)


def _holder(body: Any, path: tuple[str, ...]) -> dict[str, Any] | None:
    """The object that holds the last key of `path`."""
    for key in path[:-1]:
        body = body.get(key) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else None


def _is_json(content_type: str) -> bool:
    return content_type.split(";", 1)[0].strip().lower() == "application/json"
