"""Several engines behind one server: what do their states say together?

Data-parallel engines are alike, so settings are the first one's. Counts add up. Of everything that
warns, the worst counts: a server is as healthy as the least of its engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

# The others: numbers are added up, also those of lists, objects go key by key, and of all else the
# first counts.
_WORST: dict[str, Callable[[Any], Any]] = {
    "heartbeat_unix_s": min,
    "last_progress_unix_s": min,
    "control_seq": min,  # a switch is done when all have it
    "requested_control_seq": max,
    "control_error": max,  # "" when there is none
    "breaker_open": max,
    "policy_off": max,  # "" while it is on
    "off_by_hand": max,
    "canary_share": max,
    "paused": max,
    "passthrough": max,
    "profile_alarm": max,
    "profile_factor": max,
    "tokens_per_step": min,
    "encoder_share": max,
    "loaded_unix_s": min,
    "error": max,  # "" when there is none
    "target": max,
    "attainment": min,
    "burn": max,
    "first_unix_s": min,
    "last_unix_s": max,
    "p50": max,
    "p99": max,
    "watching": min,  # the shadow
    "off_because": max,  # "" when it is on
    "cost_share": max,
}

_NAMED = ("by_class", "classes")  # by names that the operator has given, which mean nothing here
_FIRST = ("policy_options", "replica", "load")  # of each engine by itself: /scorpio/load


def merged(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one or more engines. With one it is that one's."""
    if len(states) == 1:
        return dict(states[0])
    keys = dict.fromkeys(key for state in states for key in state)
    return {key: _together(key, [state[key] for state in states if key in state]) for key in keys}


def _together(key: str, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known or key in _FIRST:
        return values[0]
    if key in _NAMED and all(isinstance(value, Mapping) for value in known):
        names = dict.fromkeys(name for value in known for name in value)
        return {name: _together("", [v[name] for v in known if name in v]) for name in names}
    if key in _WORST:
        return _WORST[key](known)
    if all(isinstance(value, Mapping) for value in known):
        return merged(known)
    if all(isinstance(value, list) and all(map(_is_number, value)) for value in known):
        return [sum(column) for column in zip_longest(*known, fillvalue=0)]
    return sum(known) if all(map(_is_number, known)) else known[0]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
