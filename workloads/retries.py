"""When does a refused client send its request again, if at all?

As OpenAI's client does: when it is told to; told nothing, after half a second, doubled at every
try, 8 s at most; told not to, never.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

FIRST_BACK_OFF_S, MOST_BACK_OFF_S = 0.5, 8.0
MOST_TRIES = 100
_TOLD = (("retry-after-ms", 1e-3), ("retry-after", 1.0))  # the finer one is asked first


def back_off_s(tries: int) -> float:
    """How long a client waits that was told nothing; tries: how often it has asked."""
    return min(FIRST_BACK_OFF_S * 2.0 ** (tries - 1), MOST_BACK_OFF_S)


def come_back_s(headers: Mapping[str, str], tries: int, most_s: float) -> float | None:
    """Seconds until a request is sent again that was refused with these headers (names in any
    case, as aiohttp's). None: it is not. most_s: a longer wait is no wait, but an end."""
    if headers.get("x-should-retry", "").strip().lower() == "false":
        return None
    for name, unit_s in _TOLD:
        try:
            told_s = float(headers[name]) * unit_s
        except (KeyError, ValueError):  # a date, as HTTP allows, is told by none of the servers
            continue
        if math.isfinite(told_s) and told_s >= 0.0:
            return told_s if told_s <= most_s else None
    return back_off_s(tries)
