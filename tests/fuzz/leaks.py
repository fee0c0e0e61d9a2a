"""What is left of hostile requests? No request, no KV block, no fallback, and no word of theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import aiohttp

from tests.engine_server import MODEL, EngineServer
from tests.fuzz.bodies import CANARY
from tests.soak.quiet import look_when_quiet

_NAMED = "The model `"  # vLLM logs the model that a request names, when there is none


async def leaks(server: EngineServer) -> list[str]:
    """One line per thing that should not be there."""
    server.process.check_alive()
    found: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60.0)) as session:
        look = await look_when_quiet(session, server.url, MODEL, found.append)
    if not look.clean:
        found.append(f"still held without load: {look}")
    status = server.status()
    if status.get("fallbacks") or status.get("breaker_open") or status.get("control_error"):
        found.append(f"status is not well: {status}")
    return found + canaries(server)


def canaries(server: EngineServer) -> list[str]:
    """Where the client's own words came up: log, metrics, status, files of the run directory."""
    return _lines_with_a_word(
        {
            "metrics": server.call("GET", "/metrics")[2].decode(errors="replace"),
            "status": json.dumps(server.status()),
            **_files(server),
        }
    )


def canaries_left(server: EngineServer) -> list[str]:
    """The same of a server that has ended."""
    return _lines_with_a_word(_files(server))


def _files(server: EngineServer) -> dict[str, str]:
    paths = [server.process.log_path]
    paths += server.run_dir.iterdir() if server.run_dir.exists() else ()
    return {path.name: path.read_text(errors="replace") for path in paths}


def _lines_with_a_word(places: Mapping[str, str]) -> list[str]:
    lines = [
        f"{place}: {line[:200]}"
        for place, text in places.items()
        for line in text.splitlines()
        if CANARY in line and _NAMED not in line
    ]
    return lines[:20]
