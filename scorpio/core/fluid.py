"""How much of a load is served, when load is taken for a fluid?"""

from __future__ import annotations

from scorpio.core.arrays import Number

# How sharp the bend is where load reaches the room of a side: a side of more replicas loses less by
# chance. LEAST_BEND and _ROOM were fitted in the fleet twin (docs/results/fleet.md).
LEAST_BEND = 2.0
_ROOM = 1.4  # of a fluid: steps outlast a TPOT target while decodes have slack


def room_for_work(base_s: Number, step_s: float) -> Number:
    """Part of an engine's time that is for work when its steps last so long, of which `base_s` is
    fixed; below 0 when that is more."""
    return _ROOM * (1.0 - base_s / step_s)


def served_share(load: float, bend: float) -> float:
    """Of a load relative to the room for it: 1 when it is small, 1 / load when it is large."""
    if load > 1.0:  # a large power of a large load is no number
        return float((1.0 + load**-bend) ** (-1.0 / bend) / load)
    return float((1.0 + load**bend) ** (-1.0 / bend))
