"""When is a real server idle, and how did its requests end?"""

from __future__ import annotations

from collections.abc import Callable

from scorpio.live.control.scrape import scrape
from tests.engine_server import EngineServer


def is_idle(server: EngineServer) -> Callable[[], bool]:
    """True once nothing runs, waits or holds KV. An idle engine publishes nothing, so each look
    sends a small request first: its own end is told with the state it leaves."""

    def look() -> bool:
        body = {"model": server.model, "prompt": "a", "max_tokens": 1}
        assert server.call("POST", "/v1/completions", body)[0] == 200
        status, totals = server.status(), scrape(server.url)
        held = totals["vllm:kv_cache_usage_perc"] + totals["vllm:num_requests_running"]
        return (status["running"], status["waiting"], held) == (0, 0, 0.0)

    return look


def ended(server: EngineServer, state: str) -> int:
    """Requests that have ended so, as far as the engine has told."""
    return int(server.status()["finished_by_state"].get(state, 0))
