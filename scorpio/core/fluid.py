"""How much of a load is served, when load is taken for a fluid?

An engine whose steps last S, of which `base` is fixed, leaves `ROOM` x (1 - base / S) of its time
for work.
"""

from __future__ import annotations

# How sharp the bend is where load reaches the room of a side: a side of more replicas loses less by
# chance. LEAST_BEND and ROOM were fitted in the fleet twin (docs/results/fleet.md).
LEAST_BEND = 2.0
ROOM = 1.4  # of a fluid: steps outlast a TPOT target while decodes have slack


def served_share(load: float, bend: float) -> float:
    """Of a load relative to the room for it: 1 when it is small, 1 / load when it is large."""
    if load > 1.0:  # a large power of a large load is no number
        return float((1.0 + load**-bend) ** (-1.0 / bend) / load)
    return float((1.0 + load**bend) ** (-1.0 / bend))
