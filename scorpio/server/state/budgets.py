"""Is each class kept as often as its `target` says? Attainment and burn over the last windows.

A request counts when it finished, was refused or failed; not one whose client left. What the door
turns away (a tenant's own limits, a malformed request) never came to the engine and does not count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scorpio.server.context import ServerContext
from scorpio.server.state.history import counted_of

BUDGET_WINDOWS = ("5m", "1h")


class Counted(NamedTuple):
    """Requests that are good, and all that count."""

    good: int
    all: int


def budgets(server: ServerContext) -> dict[str, dict[str, Any]]:
    """For the status: of each class with a target."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in sorted(server.settings.classes.items()):
        if entry.target is None:
            continue
        found[name] = {"target": entry.target}
        windows = server.history.windows(name)
        for window in BUDGET_WINDOWS:
            lately = Counted(windows[window]["good"], counted_of(windows[window]))
            found[name][window] = {
                "good": lately.good,
                "all": lately.all,
                "attainment": round(lately.good / lately.all, 6) if lately.all else None,
                "burn": round(burn(lately, entry.target), 4),
            }
    return found


def burn(of: Counted, target: float) -> float:
    """How fast the error budget goes: 1 = as fast as it may. 0 while nothing has come."""
    return (1.0 - of.good / of.all) / (1.0 - target) if of.all else 0.0
