"""Which prefix cache does a prompt use? With `isolate_cache`, its own account's alone.

A client that is served learns from its TTFT, and one that is refused from the refusal, whether a
prompt was in the cache. vLLM keeps prompts with different salts apart; here the account is part of
the salt, whatever salt the client chose, so there is nothing of others to be found.
"""

from __future__ import annotations

import hashlib
from typing import Any


def salted(prompt: Any, tenant: str) -> Any:
    """The same engine input, for this account alone; as it is for tenants that were not checked."""
    account, slash, _ = tenant.partition("/")
    if not (account and slash and isinstance(prompt, dict)):
        return prompt
    # Hashed: vLLM and its connectors allow few characters in a salt.
    text = f"{account}/{prompt.get('cache_salt') or ''}"
    return {**prompt, "cache_salt": hashlib.sha256(text.encode()).hexdigest()}
