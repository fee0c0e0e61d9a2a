"""Do two engines tell the same story? A live run and its twin, policy by policy.

Two things are asked: is each attainment within TOLERANCE, and is the order of the policies the
same? An order is contradicted by a pair that the two engines put the other way round; a pair that
either of them holds to be equal contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from workloads.results.aggregate import LoadPoint
from workloads.results.intervals import Interval

TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """One policy at one load; `error` is twin - live, a share."""

    rate_scale: float
    policy: str
    live: Interval
    twin: Interval
    error: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """swapped: (load, policy that live holds better, the one that the twin holds better)."""

    rows: tuple[AgreementRow, ...]
    swapped: tuple[tuple[float, str, str], ...]

    @property
    def worst(self) -> float:
        """Largest difference of attainment."""
        return max(abs(row.error) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tolerance": TOLERANCE,
            "worst": self.worst,
            "same_order": not self.swapped,
            "swapped": [list(pair) for pair in self.swapped],
            "rows": [asdict(row) for row in self.rows],
        }


def agreement(live: Sequence[LoadPoint], twin: Sequence[LoadPoint]) -> Agreement:
    """Compare point by point; void live points take no part.

    Raises:
        ValueError: no valid point is in both.
    """
    theirs = {(p.rate_scale, p.policy): p.attainment for p in twin}
    rows = []
    for point in live:
        ours, other = point.attainment, theirs.get((point.rate_scale, point.policy))
        if ours is not None and other is not None:
            error = other.mean - ours.mean
            rows.append(AgreementRow(point.rate_scale, point.policy, ours, other, error))
    if not rows:
        raise ValueError("no valid run of the live engine has a twin")
    swapped = [
        (
            a.rate_scale,
            *((a.policy, b.policy) if a.live.mean > b.live.mean else (b.policy, a.policy)),
        )
        for a, b in combinations(rows, 2)
        if a.rate_scale == b.rate_scale
        and (a.live.mean - b.live.mean) * (a.twin.mean - b.twin.mean) < 0.0
    ]
    return Agreement(tuple(rows), tuple(swapped))
