"""Should a load balancer send requests here? GET /scorpio/health: 200, or 503 and why not.

vLLM's own /health answers 200 as long as the engine process exists, also when it hangs. Open, as
/metrics is; it says nothing about requests.
"""

from __future__ import annotations

from scorpio.server.answers import Answer, json_answer
from scorpio.server.context import ServerContext

HEALTH_PATH = "/scorpio/health"


def health_answer(server: ServerContext) -> Answer:
    """What scorpio/server/state/engine_watch.py has seen so far."""
    state = health_state(server)
    content = {
        "status": state,
        "unfinished": server.unfinished,
        "silent_s": round(server.silent_s, 1),
    }
    return json_answer(200 if state == "ok" else 503, content)


def health_state(server: ServerContext) -> str:
    """ok, stalled, draining or dead."""
    if server.engine.errored:
        return "dead"
    if server.flights.draining:
        return "draining"
    return "stalled" if server.stalled else "ok"
