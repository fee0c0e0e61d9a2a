"""May this request come in, and whose is it? Asked of everything, before a byte of it is read.

With API keys in the SLO file all is closed but what is listed here: a key opens what serves
requests, the admin token what acts on the engine. Without them vLLM's own check decides, behind us.
"""

from __future__ import annotations

from hmac import compare_digest

from starlette.types import Receive, Scope, Send

from scorpio.server.accounts.admin_token import deny
from scorpio.server.accounts.api_keys import presented, with_bearer
from scorpio.server.answers import Answer, error_answer
from scorpio.server.context import ServerContext
from scorpio.server.request.endpoints import ENDPOINTS, route_path
from scorpio.server.request.slo_headers import first_headers

ACCOUNT = "scorpio_account"  # in the scope of a request whose key was checked here
_OPEN = ("/health", "/ping", "/version", "/metrics", "/load")
_OURS = "/scorpio"  # has rules of its own: admin.py
# What a key opens: vLLM's own list, and the serving routes that stand beside it.
_SERVING_PREFIX = ("/v1", "/v2", "/inference", "/cohere")
_SERVING = (*ENDPOINTS, "/tokenize", "/detokenize", "/classify", "/score", "/rerank", "/pooling")
_ACTS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter")  # of what the prefixes hold


def let_in(server: ServerContext, scope: Scope) -> Scope | Answer:
    """The request to go on with, or why not."""
    keys, path = server.terms.keys, route_path(scope)
    if server.own_key and _serves(path) and compare_digest(_key_of(scope), server.own_key.encode()):
        return {**_for_vllm(server, scope), ACCOUNT: ""}
    # A browser asks without a key whether it may ask.
    if keys is None or scope.get("method") == "OPTIONS" or path in _OPEN or is_ours(path):
        return scope
    if not _serves(path):
        refused = deny(first_headers(scope["headers"]), server.environ)
        return refused or _for_vllm(server, scope)
    account = keys.account(scope)
    if account is None:
        endpoint = ENDPOINTS.get(path)
        return error_answer(
            401,
            "no API key, or an unknown one: send `Authorization: Bearer KEY`",
            headers={"www-authenticate": "Bearer"},
            anthropic=endpoint is not None and endpoint.anthropic_errors,
        )
    return {**_for_vllm(server, scope), ACCOUNT: account}


def _serves(path: str) -> bool:
    return path not in _ACTS and (path.startswith(_SERVING_PREFIX) or path in _SERVING)


def _key_of(scope: Scope) -> bytes:
    return (presented(scope) or "").encode(errors="replace")


def is_ours(path: str) -> bool:
    """Routes of ours (admin.py), which have rules of their own."""
    return path == _OURS or path.startswith(_OURS + "/")


def _for_vllm(server: ServerContext, scope: Scope) -> Scope:
    """vLLM asks for a key of its own list: it was checked here."""
    return with_bearer(scope, server.tokens[0]) if server.tokens else scope


async def close_socket(receive: Receive, send: Send) -> None:
    """A WebSocket that may not come in."""
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "no API key"})


def account_of(server: ServerContext, scope: Scope) -> str:
    """Whose key was checked: a tenant of the SLO file, or the place in vLLM's list of keys, which
    tells nothing about the key. "" = none is checked."""
    checked: str | None = scope.get(ACCOUNT)
    if checked is not None or server.terms.keys is not None:
        return checked or ""
    if server.auth is None or not server.auth.guards(scope):
        return ""
    return f"key-{server.auth.place(scope)}"
