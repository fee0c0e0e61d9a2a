"""How many replicas does a load need? The curve of one policy, and which point to measure next.

Attainment is taken to grow with the number of replicas, as the search by doubling and halving
needs it; the curve shows every point that was measured, so an exception would be seen.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workloads.errors import WorkloadError
from workloads.results.intervals import Interval
from workloads.results.windows import Window
from workloads.targets import ALL, Targets

_AS_GOOD = 0.01  # of a share: what more replicas would still bring


class Verdict(enum.StrEnum):
    """What may be said of a fleet and the targets."""

    SURE = "sure"  # the lower bound of every target's interval reaches it
    MEAN = "only its mean"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class FleetPoint:
    """What `replicas` engines made of the whole load; shares are over all requests sent.

    groups: attainment of all requests (`ALL`) and of each class. windows: parts of the trace as it
    is, in order."""

    replicas: int
    rps_per_replica: float
    groups: Mapping[str, Interval]
    rejected_share: float
    windows: tuple[Window, ...] = ()

    @property
    def attainment(self) -> Interval:
        """Of all requests together."""
        return self.groups[ALL]

    def verdict(self, targets: Targets) -> Verdict:
        """Are the targets reached, and is it sure?"""
        wanted = [(self.groups[name], share) for name, share in targets.shares.items()]
        if all(found.low >= share for found, share in wanted):
            return Verdict.SURE
        reached = all(found.mean >= share for found, share in wanted)
        return Verdict.MEAN if reached else Verdict.SHORT

    def hopeless(self, targets: Targets) -> bool:
        """Surely short: more runs would not change that."""
        return any(self.groups[name].high < share for name, share in targets.shares.items())

    def to_dict(self, targets: Targets) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"verdict": self.verdict(targets).value}


@dataclass(frozen=True, slots=True)
class FleetCurve:
    """One policy: the points measured, by replicas, and the answer (None: more than the limit).

    alone: what comes of requests that have a replica to themselves, of all and of each class: more
    replicas bring no more. Looked at where one replica does not surely do."""

    policy: str
    points: tuple[FleetPoint, ...]
    targets: Targets
    alone: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def needed(self) -> FleetPoint | None:
        """The smallest fleet that surely reaches the targets."""
        return next((p for p in self.points if p.verdict(self.targets) is Verdict.SURE), None)

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """The targets that no number of replicas reaches: an idle one surely does not, or it does
        not by its mean and a fleet that was measured is as good as that."""
        if self.needed is not None:
            return ()
        return tuple(
            name
            for name, found in self.alone.items()
            if found.high < (share := self.targets.shares.get(name, 0.0))
            or (found.mean < share and self._as_good(name, found.mean))
        )

    def _as_good(self, name: str, mean: float) -> bool:
        short = [p for p in self.points if p.verdict(self.targets) is not Verdict.SURE]
        return any(p.groups[name].mean > mean - _AS_GOOD for p in short if name in p.groups)

    @property
    def by_mean(self) -> FleetPoint | None:
        """The smallest fleet whose means reach the targets: half of the time it is too small."""
        reached = (Verdict.SURE, Verdict.MEAN)
        return next((p for p in self.points if p.verdict(self.targets) in reached), None)

    @property
    def best(self) -> FleetPoint:
        """The answer, or what came nearest."""
        return self.needed or max(self.points, key=lambda p: p.attainment.mean)

    def at(self, replicas: int) -> FleetPoint | None:
        """The fleet of that size, when it was measured."""
        return next((point for point in self.points if point.replicas == replicas), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        needed, by_mean = self.needed, self.by_mean
        return {
            "policy": self.policy,
            "replicas": None if needed is None else needed.replicas,
            "replicas_by_mean": None if by_mean is None else by_mean.replicas,
            "alone": {name: asdict(found) for name, found in self.alone.items()} or None,
            "out_of_reach": list(self.out_of_reach),
            "curve": [point.to_dict(self.targets) for point in self.points],
        }


def check_search(max_replicas: int, draws: int, rate_scales: Sequence[float]) -> None:
    """Is this a question with one answer? Raises WorkloadError."""
    if max_replicas < 1:
        raise WorkloadError(f"max_replicas must be >= 1, got {max_replicas}")
    if draws < 1:
        raise WorkloadError(f"draws must be >= 1, got {draws}")
    if len(rate_scales) != 1:
        raise WorkloadError("a plan is for one rate scale")


def next_fleet(enough: Mapping[int, bool], limit: int) -> int | None:
    """The fleet to measure next; None when the smallest sufficient one is known, or none is.

    Doubling from one until a fleet is enough, then halving the gap: the answer's neighbour below
    has always been measured and falls short.

    Args:
        enough: of those measured, by replicas.
        limit: most replicas to consider.
    """
    least = min((n for n, reached in enough.items() if reached), default=None)
    short = max(
        (n for n, reached in enough.items() if not reached and (least is None or n < least)),
        default=0,
    )
    if least is None:
        return None if short >= limit else min(max(1, 2 * short), limit)
    return (short + least) // 2 if least - short > 1 else None


def split_round_robin(count: int, replicas: int) -> list[range]:
    """Indices per replica: request i goes to replica i mod n, whatever each one is busy with."""
    return [range(first, count, replicas) for first in range(replicas)]


def by_need(plans: Iterable[FleetCurve]) -> Sequence[FleetCurve]:
    """Fewest replicas first; equal ones by attainment; those above the limit last."""

    def place(plan: FleetCurve) -> tuple[float, float]:
        replicas = float("inf") if plan.needed is None else plan.needed.replicas
        return replicas, -plan.best.attainment.mean

    return sorted(plans, key=place)
