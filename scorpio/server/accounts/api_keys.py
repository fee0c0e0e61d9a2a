"""Whose API key is this? The keys of the SLO file, and those of vLLM's `--api-key`.

Only hashes are kept. A key is looked up by a hash with a secret of this process, so that the time
this takes tells nothing about the keys that there are.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from scorpio.server.request.endpoints import route_path
from scorpio.tenant_settings import TenantSettings, digest_of

ANTHROPIC_HEADER = "x-api-key"  # what Anthropic's clients send, on their own route alone
_ANTHROPIC_PATH = "/v1/messages"


class ApiKeys:
    """tokens: vLLM's own keys; their accounts are key-0, key-1, ... The account of a key of the
    file is its tenant."""

    def __init__(self, tenants: Mapping[str, TenantSettings], tokens: Sequence[str] = ()) -> None:
        self._secret = secrets.token_bytes(32)
        digests = {digest_of(line): name for name, t in tenants.items() for line in t.keys}
        for place, token in enumerate(tokens):
            digests.setdefault(_digest(token), f"key-{place}")
        self._accounts = {self._sealed(digest): name for digest, name in digests.items()}

    def account(self, scope: Scope) -> str | None:
        """Of the key that this request brings; None: no key, or an unknown one."""
        key = presented(scope)
        return None if key is None else self._accounts.get(self._sealed(_digest(key)))

    def _sealed(self, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest, "sha256")


def presented(scope: Scope) -> str | None:
    """The key of a request: its bearer token, else Anthropic's header on Anthropic's route."""
    headers = Headers(scope=scope)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    if route_path(scope).startswith(_ANTHROPIC_PATH):
        return headers.get(ANTHROPIC_HEADER)
    return None


def with_bearer(scope: Scope, token: str) -> Scope:
    """The same request with this key, for vLLM's own check behind us."""
    headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"authorization"]
    return {**scope, "headers": [*headers, (b"authorization", f"Bearer {token}".encode())]}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogateescape")).digest()
