"""Which share of promises do N equal replicas keep, when so much work comes? As fluids.

The same quantities as where the router splits a fleet (`sides.py`): a replica for a TPOT SLO of S
has room for 1 - base / S of its time. Here sides may be parts of a replica, so the answer needs no
search. Of what does not fit every request is taken to lose its part. Replicas shed the costliest
ones first, so more requests are kept than is said here; sizes chosen by this give none of them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.demand import Level
from scorpio.core.fluid import LEAST_BEND, room_for_work

LEAST_ROOM = 0.02  # of a target that is hardly in reach, a replica still serves something
_NONE = 1e-12


class Kept(Protocol):
    """load: engine seconds per second of all replicas together, any shape. Less load and more
    replicas never keep less."""

    def __call__(self, load: FloatArray, replicas: int) -> FloatArray:
        """Share of the requests that are good, 0 to 1, in the shape of `load`."""


class FluidKept:
    """Of requests as they came lately. demand: by TPOT SLO in seconds. base_s: a step's fixed
    time. A TPOT SLO that is no longer than it no number of replicas can keep: those requests are
    left out."""

    def __init__(self, demand: Mapping[float, Level], base_s: float) -> None:
        able = [(tpot_s, level.load) for tpot_s, level in demand.items() if tpot_s > base_s]
        total = sum(load for _, load in able)
        asked = sum(load / max(room_for_work(base_s, tpot_s), LEAST_ROOM) for tpot_s, load in able)
        self._replicas_per_load = asked / total if total > 0.0 else 0.0

    def __call__(self, load: FloatArray, replicas: int) -> FloatArray:
        """As `Kept`; `served_share` of fluid.py, for arrays. replicas: 1 or more."""
        full = np.asarray(load) * self._replicas_per_load / max(replicas, 1)
        bend = LEAST_BEND + replicas
        # for full > 1 the same with 1 / full: a large power of a large load is no number
        small = np.clip(np.minimum(full, 1.0 / np.maximum(full, _NONE)), _NONE, 1.0)
        found: FloatArray = (1.0 + small**bend) ** (-1.0 / bend) / np.maximum(full, 1.0)
        return found
