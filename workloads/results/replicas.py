"""How many replicas does a load need? The curve of one policy, and which point to measure next.

Attainment is taken to grow with the number of replicas, as the search by doubling and halving
needs it; the curve shows every point that was measured, so an exception would be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workloads.errors import WorkloadError
from workloads.results.intervals import Interval


@dataclass(frozen=True, slots=True)
class FleetPoint:
    """What `replicas` engines made of the whole load; shares are over all requests sent."""

    replicas: int
    rps_per_replica: float
    attainment: Interval
    rejected_share: float


@dataclass(frozen=True, slots=True)
class FleetCurve:
    """One policy: the points measured, by replicas, and the answer (None: more than the limit)."""

    policy: str
    points: tuple[FleetPoint, ...]
    target: float

    @property
    def needed(self) -> FleetPoint | None:
        """The smallest fleet that reaches the target."""
        return next((p for p in self.points if p.attainment.mean >= self.target), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        needed = self.needed
        return {
            "policy": self.policy,
            "replicas": None if needed is None else needed.replicas,
            "curve": [asdict(point) for point in self.points],
        }


def check_search(target: float, max_replicas: int, rate_scales: Sequence[float]) -> None:
    """Is this a question with one answer? Raises WorkloadError."""
    if not 0.0 < target <= 1.0:
        raise WorkloadError(f"target must be in (0, 1], got {target:g}")
    if max_replicas < 1:
        raise WorkloadError(f"max_replicas must be >= 1, got {max_replicas}")
    if len(rate_scales) != 1:
        raise WorkloadError("a plan is for one rate scale")


def next_fleet(measured: Mapping[int, float], target: float, limit: int) -> int | None:
    """The fleet to measure next; None when the smallest sufficient one is known, or none is.

    Doubling from one until the target is met, then halving the gap: the answer's neighbour below
    has always been measured and falls short.

    Args:
        measured: attainment by replicas.
        limit: most replicas to consider.
    """
    enough = min((n for n, share in measured.items() if share >= target), default=None)
    short = max(
        (n for n, share in measured.items() if share < target and (enough is None or n < enough)),
        default=0,
    )
    if enough is None:
        return None if short >= limit else min(max(1, 2 * short), limit)
    return (short + enough) // 2 if enough - short > 1 else None


def split_round_robin(count: int, replicas: int) -> list[range]:
    """Indices per replica: request i goes to replica i mod n, whatever each one is busy with."""
    return [range(first, count, replicas) for first in range(replicas)]


def by_need(plans: Iterable[FleetCurve]) -> Sequence[FleetCurve]:
    """Fewest replicas first; equal ones by attainment; those above the limit last."""

    def place(plan: FleetCurve) -> tuple[float, float]:
        best = plan.needed
        if best is None:
            return float("inf"), -max(p.attainment.mean for p in plan.points)
        return best.replicas, -best.attainment.mean

    return sorted(plans, key=place)
