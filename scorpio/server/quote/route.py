"""How is a quote asked for? `POST /v1/slo/quote` with a number of prompt tokens, or with the text,
which vLLM's own /tokenize counts. Nothing is computed, and nothing is let in.
"""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope

from scorpio.core.routing.load import UNKNOWN_LENGTH
from scorpio.core.slo import SloError, parse_ms
from scorpio.server.accounts.door import account_of
from scorpio.server.accounts.in_flight import BodyTimeoutError, BodyTooLargeError, read_body
from scorpio.server.answers import Answer, bad_request, error_answer, json_answer, slow_body_answer
from scorpio.server.context import ServerContext
from scorpio.server.quote.desk import told
from scorpio.server.request.request_body import replay

QUOTE_PATH = "/v1/slo/quote"
KEEPS_QUOTES = "scorpio"
MOST_BODY_BYTES = 4 << 20
MOST_TOKENS = 1 << 30
FIELDS = ("prompt_tokens", "prompt", "messages", "model", "max_tokens", "slo_tpot_ms")
_TEXTS = ("prompt", "messages")


async def quote_answer(
    app: ASGIApp, server: ServerContext, scope: Scope, receive: Receive
) -> Answer | None:
    """None: the client has left."""
    if server.policy != KEEPS_QUOTES:
        return error_answer(409, f"the policy is {server.policy}: only scorpio keeps quotes")
    if not server.latency_source:
        return error_answer(409, "no latency profile: nothing is forecast; run `scorpio profile`")
    try:
        raw = await read_body(scope, receive, MOST_BODY_BYTES, most_s=server.settings.most_body_s)
        if raw is None:
            return None
        asked = _asked(raw)
        tokens = asked.get("prompt_tokens")
        if tokens is None:
            tokens = await _count(app, scope, receive, asked)
            if isinstance(tokens, Answer):
                return tokens
        tpot = asked.get("slo_tpot_ms")
        tpot_slo_s = math.inf if tpot is None else parse_ms("slo_tpot_ms", tpot)
    except SloError as error:
        return bad_request(f"{error.field}: {error.message}", error.field)
    except BodyTooLargeError as error:
        return error_answer(413, str(error))
    except BodyTimeoutError:
        return slow_body_answer()
    most = asked.get("max_tokens") or UNKNOWN_LENGTH
    quote = server.quotes.ask(tokens, min(most, UNKNOWN_LENGTH), tpot_slo_s)
    if quote is None:
        again = {"retry-after": "1"}
        return error_answer(503, "no quote: each seat of the engine is taken", headers=again)
    return json_answer(200, told(quote, server.quotes.token(quote, account_of(server, scope))))


def _asked(raw: bytes) -> dict[str, Any]:
    """The checked body. Raises SloError naming the field."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise SloError("body", "is not JSON") from None
    if not isinstance(body, dict):
        raise SloError("body", "must be an object")
    if unknown := sorted(set(body) - set(FIELDS)):
        raise SloError(unknown[0][:64], f"unknown; valid: {', '.join(FIELDS)}")
    if sum(body.get(name) is not None for name in ("prompt_tokens", *_TEXTS)) != 1:
        raise SloError("prompt_tokens", "give one of prompt_tokens, prompt, messages")
    for name in ("prompt_tokens", "max_tokens"):
        number = body.get(name)
        whole = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (whole and 1 <= number <= MOST_TOKENS):
            raise SloError(name, f"must be a whole number in [1, {MOST_TOKENS}]")
    return body


async def _count(
    app: ASGIApp, scope: Scope, receive: Receive, asked: dict[str, Any]
) -> int | Answer:
    """Tokens of the text, as vLLM counts them, with its chat template; or vLLM's own error."""
    wanted = {n: asked[n] for n in (*_TEXTS, "model") if asked.get(n) is not None}
    body = json.dumps(wanted).encode()
    drop = (b"content-length", b"transfer-encoding", b"content-type", b"accept-encoding")
    headers = [(k, v) for k, v in scope["headers"] if k.lower() not in drop]
    headers += [(b"content-type", b"application/json")]
    headers += [(b"content-length", str(len(body)).encode())]
    path = scope.get("root_path", "") + "/tokenize"
    inner = {**scope, "path": path, "raw_path": path.encode(), "headers": headers}
    status, parts = 500, list[bytes]()

    async def collect(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await app(inner, replay(body, receive), collect)
    raw = b"".join(parts)
    if status != 200:
        return Answer(status, raw)
    return max(int(json.loads(raw)["count"]), 1)
