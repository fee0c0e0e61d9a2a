"""What do days of load cost, and keep, with replicas that come and go? By the coarse model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.routing.autoscale import AutoscaleOptions
from scorpio.studies.days import TICK_S, Days
from scorpio.twin.fleet.coarse import (
    DRAIN_S,
    CoarseOptions,
    CoarseRun,
    Curve,
    Scaler,
    run_coarse,
    smoothed,
)
from scorpio.twin.fleet.scalers import QueueLength, fixed, hindsight, promises

QUEUE_S = 15.0  # between two looks of Kubernetes' HPA
HOUR_TICKS = int(3600 / TICK_S)


@dataclass(frozen=True, slots=True)
class Goal:
    """target: share of requests that are to be good. warm_up_s, drain_s: of a replica."""

    target: float = 0.97
    warm_up_s: float = 100.0
    drain_s: float = DRAIN_S
    min_replicas: int = 1
    max_replicas: int = 16

    def options(self) -> AutoscaleOptions:
        """For the rule. Raises ValueError."""
        return AutoscaleOptions(
            self.target,
            self.warm_up_s,
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
        )

    def coarse(self, every_s: float) -> CoarseOptions:
        """For the model."""
        return CoarseOptions(TICK_S, every_s, self.warm_up_s, self.drain_s, self.max_replicas)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Load in each tick, and how many requests that is, [T]; the curve; the goal."""

    load: FloatArray
    requests: FloatArray
    curve: Curve
    goal: Goal

    @classmethod
    def of(cls, days: Days, factor: float, seed: int, curve: Curve, goal: Goal) -> Scene:
        """factor: of the rates."""
        sent = days.sent(factor, seed)
        return cls(days.load(sent), sent.sum(axis=0).astype(float), curve, goal)

    def first(self, ticks: int) -> Scene:
        """The first ticks alone."""
        return replace(self, load=self.load[:ticks], requests=self.requests[:ticks])

    def run(self, scaler: Scaler, every_s: float = 30.0) -> CoarseRun:
        """All ticks, from as many replicas as the first minutes need."""
        even = smoothed(self.load, 30)[[min(30, len(self.load) - 1)]]
        most = self.goal.max_replicas
        start = next(
            (n for n in range(1, most) if self.curve(even, n)[0] >= self.goal.target), most
        )
        return run_coarse(self.load, self.curve, scaler, self.goal.coarse(every_s), start)

    def score(self, run: CoarseRun, part: slice) -> dict[str, float]:
        """Of some ticks. kept: share of requests. replicas: paid for on average. share: of
        max_replicas at all times. worst_hour: the least share kept in an hour. orders: a day."""
        requests, kept, paid = self.requests[part], run.kept[part], run.paid[part]
        good = requests * kept
        hours = len(good) // HOUR_TICKS
        by_hour = [
            x[: hours * HOUR_TICKS].reshape(-1, HOUR_TICKS).sum(axis=1) for x in (good, requests)
        ]
        each_hour = by_hour[0] / np.maximum(by_hour[1], 1.0)
        days = len(good) * TICK_S / 86_400.0
        return {
            "kept": float(good.sum() / max(requests.sum(), 1.0)),
            "replicas": float(paid.mean()),
            "share": float(paid.mean()) / self.goal.max_replicas,
            "worst_hour": float(each_hour.min()) if hours else float("nan"),
            "orders": float(np.maximum(np.diff(run.ready[part]), 0.0).sum()) / days,
        }


def factor_for(days: Days, curve: Curve, target: float, replicas: int) -> float:
    """Of the rates, with which so many replicas just keep the target in the fullest window."""
    low, high = 0.0, float(curve.load[-1]) * 4 * replicas
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float(curve(np.array([middle]), replicas)[0]) >= target:
            low = middle
        else:
            high = middle
    return low / float(days.window_load.max())


def tuned_queue(scene: Scene, targets: tuple[float, ...]) -> tuple[float, list[Any]]:
    """The queue length with which an HPA keeps the target at least cost, else keeps most; and all
    that was tried: (target, kept, replicas)."""
    tried = []
    for target in targets:
        score = scene.score(scene.run(queue(scene, target), QUEUE_S), slice(None))
        tried.append((target, score["kept"], score["replicas"]))
    enough = [one for one in tried if one[1] >= scene.goal.target]
    if enough:
        return min(enough, key=lambda one: one[2])[0], tried
    return max(tried, key=lambda one: one[1])[0], tried


def queue(scene: Scene, target: float) -> Scaler:
    """An HPA on requests in flight."""
    return QueueLength.of(target, scene.goal.max_replicas)


def systems(scene: Scene, days: Days, queue_target: float) -> Mapping[str, CoarseRun]:
    """Each way to choose, over all ticks."""
    goal, curve = scene.goal, scene.curve
    ahead = round(goal.warm_up_s / TICK_S) + 3
    most = goal.max_replicas
    return {
        "fixed at the peak": scene.run(fixed(most)),
        "queue length (HPA)": scene.run(queue(scene, queue_target), QUEUE_S),
        "promises, curve": scene.run(promises(goal.options(), curve)),
        "promises, fluid": scene.run(promises(goal.options(), days.fluid())),
        "hindsight": scene.run(hindsight(scene.load, curve, goal.target, most, ahead)),
    }


def least_fixed(scene: Scene, part: slice) -> tuple[int, dict[str, float]]:
    """The smallest fleet of one size that keeps the target over all of `part`."""
    for replicas in range(1, scene.goal.max_replicas + 1):
        score = scene.score(scene.run(fixed(replicas)), part)
        if replicas == scene.goal.max_replicas or score["kept"] >= scene.goal.target:
            break
    return replicas, score
