"""How many replicas are for which TPOT targets? The split that keeps most promises, as fluids.

A tight request makes every step of its replica short, and a part of each step is fixed: a replica
whose steps last S leaves 1 - base / S of its time for work. So tight targets are kept together on a
few replicas. Which split is best follows from how much work of each level comes, and changes with
it. A level without replicas of its own shares those of the next tighter one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.demand import Level
from scorpio.core.fluid import LEAST_BEND, room_for_work, served_share
from scorpio.core.routing.fleet_view import FleetView

FEW = 2_000  # splits that are all tried; of larger fleets those near the present one
BETTER = 1.01  # a new split keeps this much more, or nothing moves


def best_split(
    view: FleetView, demand: Mapping[float, Level], present: Sequence[int]
) -> tuple[list[float], list[int]]:
    """TPOT SLOs, the tightest first, and how many replicas are for each, in order of `by_speed`.

    The tightest has one or more. present: the split until now, kept unless another is clearly
    better.
    """
    levels = list(demand)
    rows = by_speed(view)
    if not levels or not len(rows):
        return levels, []
    load = [demand[s].load for s in levels]
    share = np.array([np.maximum(room_for_work(view.base_s[rows], s), 0.0) for s in levels])
    # cum[l, n]: capacity of the first n replicas with floor l
    cum = np.concatenate([np.zeros((len(levels), 1)), np.cumsum(share, axis=1)], axis=1)

    def value(split: Sequence[int]) -> float:
        kept, first, members = 0.0, 0, [0]
        for level, count in enumerate(split):
            if level and count:  # the side before is complete
                kept += served(members, first - split[members[0]], first)
                members = []
            members += [level] if level else []
            first += count
        return kept + served(members, first - split[members[0]], first)

    def served(members: Sequence[int], first: int, end: int) -> float:
        room = cum[members[0], end] - cum[members[0], first]
        asked = sum(load[level] for level in members)
        share = served_share(asked / max(room, 1e-9), LEAST_BEND + end - first)
        return sum(demand[levels[level]].kept(share * load[level]) for level in members)

    known = len(present) == len(levels) and sum(present) == len(rows)
    tried = max(_splits(len(rows), len(levels), present if known else None), key=value)
    if known and value(tried) < BETTER * value(present):
        return levels, list(present)
    return levels, list(tried)


def by_speed(view: FleetView) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Living replicas, the one with the least fixed time per step first: tight targets cost least
    there."""
    alive = view.alive.nonzero()[0]
    return alive[np.argsort(view.base_s[alive], kind="stable")]


def _splits(replicas: int, levels: int, present: Sequence[int] | None) -> Iterator[tuple[int, ...]]:
    """All of a small fleet; else those that move one replica, or a tenth, from level to level."""
    if _count(replicas, levels) <= FEW:
        yield from (split for split in _all(replicas, levels) if split[0])
        return
    base = tuple(present) if present is not None else _even(replicas, levels)
    yield base
    for step in (1, max(replicas // 10, 1)):
        for giving in range(levels):
            for taking in range(levels):
                if giving != taking and base[giving] >= step + (giving == 0):
                    moved = list(base)
                    moved[giving] -= step
                    moved[taking] += step
                    yield tuple(moved)


def _count(replicas: int, levels: int) -> int:
    found = 1
    for i in range(1, levels):
        found = found * (replicas + i) // i
    return found


def _all(replicas: int, levels: int) -> Iterator[tuple[int, ...]]:
    if levels == 1:
        yield (replicas,)
        return
    for first in range(replicas + 1):
        for rest in _all(replicas - first, levels - 1):
            yield (first, *rest)


def _even(replicas: int, levels: int) -> tuple[int, ...]:
    part = replicas // levels
    return (replicas - part * (levels - 1), *(part,) * (levels - 1))


def floors(levels: Sequence[float], split: Sequence[int], view: FleetView) -> FloatArray:
    """The tightest TPOT SLO that each replica is for, [N]; 0 = any, also for those not alive."""
    found = np.zeros(len(view))
    at, rows = 0, by_speed(view)
    for level_s, count in zip(levels, split, strict=True):
        found[rows[at : at + count]] = level_s
        at += count
    return found
