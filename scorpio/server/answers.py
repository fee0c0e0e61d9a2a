"""What does an answer of our own look like on the wire? Status, headers, JSON body.

The shape is vLLM's (`vllm.entrypoints.serve.engine.protocol.ErrorResponse`), so clients need no
second error parser; /v1/messages gets Anthropic's envelope around the same fields, and its types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import Send

# What Anthropic's clients choose their exception by (docs.anthropic.com, "Errors").
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
REQUEST_ID_HEADER = "x-scorpio-request-id"
_IN_IDS = "!#$&'()*+,/:;=?@[]~"  # what a client may choose (`X-Request-Id`) and a header holds
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete HTTP response; content headers are added when it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, json.dumps(content).encode(), headers or {})


def error_answer(
    status: int,
    message: str,
    *,
    kind: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
    anthropic: bool = False,
    request_id: str = "",
) -> Answer:
    """An error in vLLM's shape. `kind` defaults to the reason phrase, as vLLM's own 503 does.

    request_id: where the engine knows the request; in the body too, for a stream that has begun has
    no headers left."""
    kind = kind or HTTPStatus(status).phrase
    error: dict[str, object] = {
        "message": message,
        "type": _ANTHROPIC_TYPES.get(status, "api_error") if anthropic else kind,
        "param": param,
        "code": status,
    }
    content: dict[str, object]
    content = {"type": "error", "error": error} if anthropic else {"error": error}
    if request_id:  # where Anthropic has it, and beside what vLLM has
        (content if anthropic else error)["request_id"] = request_id
        headers = {
            **(headers or {}),
            REQUEST_ID_HEADER: quote(request_id, safe=_IN_IDS, errors="replace"),
        }
    return json_answer(status, content, headers)


def bad_request(message: str, param: str | None, *, anthropic: bool = False) -> Answer:
    """400, with the type vLLM gives to its own."""
    return error_answer(400, message, kind="BadRequestError", param=param, anthropic=anthropic)


def slow_body_answer(anthropic: bool = False) -> Answer:
    """408. What is still to come is not waited for."""
    close = {"connection": "close"}
    return error_answer(408, "the body did not come in time", headers=close, anthropic=anthropic)


def error_event(answer: Answer, anthropic: bool) -> bytes:
    """The same error as the last event of a stream that has begun."""
    if anthropic:
        return b"event: error\ndata: " + answer.body + b"\n\n"
    return b"data: " + answer.body + b"\n\ndata: [DONE]\n\n"


async def send_answer(send: Send, answer: Answer, keep: RawHeaders | None = None) -> None:
    """Send it; `keep` are headers of a replaced response (request id, CORS) that stay true."""
    dropped = (b"content-type", b"content-length", b"transfer-encoding")
    raw: RawHeaders = [(k, v) for k, v in keep or [] if k.lower() not in dropped]
    raw += [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers.items()]
    if "content-type" not in answer.headers:
        raw.append((b"content-type", b"application/json"))
    raw.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
