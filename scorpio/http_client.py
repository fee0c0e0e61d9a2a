"""How do our clients keep connections? For less time than any server does.

A request that is not idempotent cannot be sent again when its connection breaks. vLLM's server
closes one that was idle for five seconds (VLLM_HTTP_TIMEOUT_KEEP_ALIVE in vllm/envs.py), and a
request that is sent in that moment fails, or makes a replica look lost.
"""

from __future__ import annotations

from ssl import SSLContext
from typing import Final

from aiohttp import TCPConnector

IDLE_S: Final = 1.0


def connector(tls: SSLContext | bool = True) -> TCPConnector:
    """Without a limit of its own: what may be under way at once is bounded by who sends. tls: as
    aiohttp's `ssl`. Made inside a running event loop."""
    return TCPConnector(limit=0, keepalive_timeout=IDLE_S, ssl=tls)
