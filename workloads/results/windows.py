"""Does the answer depend on the window? Parts of one trace, each looked at alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workloads.results.records import RequestRecord
from workloads.results.traffic import share_interval
from workloads.targets import ALL, Targets, class_of

_PARTS = 4


@dataclass(frozen=True, slots=True)
class Window:
    """Requests first to last of the trace, counted from 1. groups: per class, and of all, the
    share of good requests and how many there are."""

    first: int
    last: int
    groups: Mapping[str, tuple[float, int]]

    def surely_short(self, targets: Targets) -> bool:
        """Did it miss a target by more than chance would have it?"""
        return any(
            name in self.groups and share_interval(*self.groups[name])[1] < share
            for name, share in targets.shares.items()
        )

    def reached(self, targets: Targets) -> bool:
        """Did its shares reach the targets?"""
        return all(
            self.groups[name][0] >= share
            for name, share in targets.shares.items()
            if name in self.groups
        )


def grouped(records: Sequence[RequestRecord]) -> dict[str, list[float]]:
    """1 for each good request and 0 for the others: of all, then of each class, sorted."""
    found: dict[str, list[float]] = {ALL: [float(record.good) for record in records]}
    for name in sorted({class_of(record.slo_class) for record in records}):
        found[name] = [float(r.good) for r in records if class_of(r.slo_class) == name]
    return found


def windows_of(records: Sequence[RequestRecord]) -> tuple[Window, ...]:
    """Four parts of as many requests each. records: in order of arrival."""
    parts = np.array_split(np.arange(len(records)), min(_PARTS, len(records)))
    return tuple(
        Window(
            int(part[0]) + 1,
            int(part[-1]) + 1,
            {
                name: (float(np.mean(values)), len(values))
                for name, values in grouped([records[row] for row in part]).items()
            },
        )
        for part in parts
    )
