"""Who says how many replicas there should be? Ours, a queue-length HPA, and one that knows what
will come; each as the coarse model asks it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.autoscale import AutoscaleOptions, Autoscaler
from scorpio.core.routing.carried import Kept
from scorpio.twin.fleet.coarse import Curve, Scaler, Seen, smoothed

# Kubernetes' documented defaults of HorizontalPodAutoscaler.
TOLERANCE, DOWN_S, UP_TIMES, UP_PODS = 0.1, 300.0, 2, 4


def promises(options: AutoscaleOptions, kept: Kept) -> Scaler:
    """Ours: scorpio/core/routing/autoscale.py."""
    rule = Autoscaler(options)
    return lambda seen: rule.wanted(seen.now_s, seen.load, seen.ready + seen.starting, kept)


@dataclass(slots=True)
class QueueLength:
    """ceil(requests in all replicas / target for each), as Kubernetes does it for a metric with an
    average value: not within 10 % of the target; at most twice as many or four more at once; fewer
    only when no more were wanted for 300 s. A formula from its documents, source: kubernetes.io,
    Horizontal Pod Autoscaling."""

    target: float
    max_replicas: int
    _recent: deque[tuple[float, int]]

    @classmethod
    def of(cls, target: float, max_replicas: int) -> QueueLength:
        """target: requests in flight for each replica, > 0."""
        if not target > 0.0:
            raise ValueError(f"target must be > 0, got {target!r}")
        return cls(target, max_replicas, deque())

    def __call__(self, seen: Seen) -> int:
        """Wanted replicas."""
        present = seen.ready + seen.starting
        wanted = math.ceil(seen.in_flight / self.target)
        if abs(seen.in_flight / (self.target * present) - 1.0) <= TOLERANCE:
            wanted = present
        wanted = min(max(wanted, 1), self.max_replicas)
        self._recent.append((seen.now_s, wanted))
        while self._recent[0][0] < seen.now_s - DOWN_S:
            self._recent.popleft()
        if wanted < present:
            return min(max(most for _, most in self._recent), present)
        return min(wanted, max(UP_TIMES * present, present + UP_PODS))


def enough(load: FloatArray, curve: Curve, target: float, most: int) -> FloatArray:
    """The least number of replicas that keeps the target in each tick, [T]; `most` if none does."""
    found = np.full(len(load), float(most))
    for replicas in range(most, 0, -1):
        found[curve(load, replicas) >= target] = replicas
    return found


def hindsight(load: FloatArray, curve: Curve, target: float, most: int, ticks: int) -> Scaler:
    """Knows the load of the next `ticks` ticks: has the least that keeps the target in all of
    them."""
    needed = enough(smoothed(load, 3), curve, target, most)
    padded = np.concatenate([needed, np.full(ticks, needed[-1])])
    ahead = np.max(np.lib.stride_tricks.sliding_window_view(padded, ticks + 1), axis=1)
    return lambda seen: int(ahead[min(seen.tick, len(ahead) - 1)])


def fixed(replicas: int) -> Scaler:
    """As many at all times."""
    return lambda _: replicas
