"""May this caller act on the server? Only with the operator's token; without one none may."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from scorpio.server.answers import Answer, error_answer

TOKEN_VARIABLE = "SCORPIO_ADMIN_TOKEN"


def deny(headers: Mapping[str, str], environ: Mapping[str, str]) -> Answer | None:
    """None when this caller may write; else why not."""
    wanted = environ.get(TOKEN_VARIABLE, "")
    if not wanted:
        return error_answer(403, f"switched off: start the server with {TOKEN_VARIABLE} set")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), wanted.encode()):
        return None
    return error_answer(
        401,
        f"needs `Authorization: Bearer <value of {TOKEN_VARIABLE}>`",
        headers={"www-authenticate": "Bearer"},
    )


def fingerprint(environ: Mapping[str, str]) -> str:
    """Names the token that is in force, and does not tell it."""
    return hashlib.sha256(environ.get(TOKEN_VARIABLE, "").encode()).hexdigest()[:8]
