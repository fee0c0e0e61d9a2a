"""Can one request with a seed end the engine? On vLLM's CPU build it does, without the adapter."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine_server import ENGINE_MARKS, EngineServer

pytestmark = ENGINE_MARKS


@pytest.mark.parametrize("stream", [False, True])
def test_a_seed_with_a_prompt_in_chunks(engine_server: EngineServer, stream: bool) -> None:
    """400 tokens are four steps of this server."""
    body: dict[str, Any] = {"model": "tiny", "prompt": "seed " * 80, "max_tokens": 3}
    body |= {"seed": 7, "temperature": 1.0, "stream": stream}
    before = int(engine_server.status().get("seeds_dropped", 0))
    code, _, raw = engine_server.call("POST", "/v1/completions", body)
    assert code == 200, raw
    assert b'"error"' not in raw
    engine_server.process.check_alive()
    plain = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    assert engine_server.call("POST", "/v1/completions", plain)[0] == 200
    assert engine_server.status()["seeds_dropped"] == before + 1
