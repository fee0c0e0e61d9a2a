"""Is each class kept as often as its `target` says? Attainment and burn over the last windows.

A request counts when it finished, was refused or failed; not one whose client left. What the door
turns away (a tenant's own limits, a malformed request) never came to the engine and does not count.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from scorpio.core.plan import FinalState
from scorpio.server.budget_window import PERIOD_S, WINDOWS_S, Counted, burn
from scorpio.server.context import ServerContext

logger = logging.getLogger("vllm.scorpio")
_COUNTS = (FinalState.FINISHED, FinalState.REJECTED, FinalState.FAILED)


def counted(by_class: object) -> dict[str, Counted]:
    """Of each class, out of an engine's status."""
    classes = by_class if isinstance(by_class, Mapping) else {}
    return {str(name): _counted(entry) for name, entry in classes.items()}


def budgets(server: ServerContext) -> dict[str, dict[str, Any]]:
    """For the status: of each class with a target."""
    now_s, counts = time.monotonic(), counted((server.status.read() or {}).get("by_class"))
    found: dict[str, dict[str, Any]] = {}
    for name, entry in sorted(server.settings.classes.items()):
        if entry.target is None:
            continue
        found[name] = {"target": entry.target}
        for window, seconds in WINDOWS_S.items():
            lately = server.budgets.lately(now_s, counts, name, seconds)
            found[name][window] = {
                "good": lately.good,
                "all": lately.all,
                "attainment": round(lately.good / lately.all, 6) if lately.all else None,
                "burn": round(burn(lately, entry.target), 4),
            }
    return found


async def watch_budgets(server: ServerContext) -> None:
    """Until cancelled: a sample of the counters now and then."""
    while True:
        try:
            now = counted((server.status.read() or {}).get("by_class"))
            server.budgets.look(time.monotonic(), now)
        except Exception:  # counting must never end, nor take the server with it
            logger.exception("Scorpio: the error budgets could not be looked at")
        await asyncio.sleep(PERIOD_S)


def _counted(entry: object) -> Counted:
    fields = entry if isinstance(entry, Mapping) else {}
    outcomes = fields.get("outcomes")
    known = outcomes if isinstance(outcomes, Mapping) else {}
    return Counted(_whole(fields.get("good")), sum(_whole(known.get(s.value)) for s in _COUNTS))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
