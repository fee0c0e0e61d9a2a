"""What may a router in front know of this server? GET /scorpio/load: health, speed and load.

Small and quick, because it is asked for twice a second. Open, as /metrics is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from scorpio.server.answers import Answer, json_answer
from scorpio.server.context import ServerContext
from scorpio.server.state.health import health_state

LOAD_PATH = "/scorpio/load"


def load_answer(server: ServerContext) -> Answer:
    """`state` as in /scorpio/health; `terms`: which SLO file is in force; of each engine what it is
    (`replica`), what it has to do (`load`, as `ReplicaLoad.to_dict` writes it) and how many seconds
    ago that was."""
    now_s = time.time()
    engines = [
        {"age_s": _age_s(server, state, now_s), "replica": state["replica"], "load": state["load"]}
        for state in server.status.by_engine().values()
        if "load" in state
    ]
    content = {
        "state": health_state(server),
        "policy": server.policy,
        "terms": server.terms.short_digest,
        "engines": engines,
    }
    return json_answer(200, content)


def _age_s(server: ServerContext, state: Mapping[str, Any], now_s: float) -> float:
    """An engine without work says nothing: that it has none is as true now."""
    idle = not server.flights.calls and not state.get("unfinished")
    return 0.0 if idle else max(now_s - float(state["load"]["at_s"]), 0.0)
