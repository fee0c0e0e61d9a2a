"""Are all served alike? The worst class and tenant, and Jain's index over the tenants.

A group of a few requests says little, so one counts from LEAST_REQUESTS on, over all runs of a
point. Jain's index of the tenants' attainment is 1 where all are served alike, and 1/n where one
of n is served and the others are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from workloads.results.records import RequestRecord

LEAST_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Group:
    """A class or a tenant, and the share of its requests that were good."""

    name: str
    attainment: float


@dataclass(frozen=True, slots=True)
class Fairness:
    """None where there are not two groups to compare; jain: nor where no request is good."""

    worst_class: Group | None = None
    worst_tenant: Group | None = None
    jain: float | None = None


def fairness(records: Iterable[RequestRecord]) -> Fairness:
    """Of all requests of all runs of a point; those without a class or tenant are of none."""
    records = list(records)
    tenants = _groups(records, lambda record: record.tenant)
    shares = [group.attainment for group in tenants]
    return Fairness(
        _worst(_groups(records, lambda record: record.slo_class)),
        _worst(tenants),
        jain_index(shares) if len(shares) > 1 else None,
    )


def jain_index(shares: list[float]) -> float | None:
    """(sum of x)^2 / (n * sum of x^2); None when all are 0."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


def _groups(records: list[RequestRecord], name: Callable[[RequestRecord], str]) -> list[Group]:
    flags: dict[str, list[bool]] = {}
    for record in records:
        if name(record):
            flags.setdefault(name(record), []).append(record.good)
    return [
        Group(one, sum(good) / len(good))
        for one, good in sorted(flags.items())
        if len(good) >= LEAST_REQUESTS
    ]


def _worst(groups: list[Group]) -> Group | None:
    return min(groups, key=lambda group: group.attainment) if len(groups) > 1 else None
