"""Between which tenants are shares kept? Between all, or inside each class where they have weights.

Weights are the operator's: inside a class a tenant of weight 3 gets three times the engine time of
one of weight 1 while both ask for more than there is. Without weights shares are equal, and kept
only where the option `tenant_share` asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from scorpio.core.arrays import FloatArray, IntArray
from scorpio.core.policies.scorpio.fair_share import TenantShares
from scorpio.core.request import RequestView
from scorpio.core.snapshot import RunningBatch
from scorpio.core.tenants import share_group
from scorpio.core.waiting import WaitingTable

_EXACT = 1.0  # fair shares that a tenant with a weight may have
_MOST_GROUPS = 256  # classes that are remembered; they are the operator's


class ClassShares:
    """`most`, `request_s`: as in `TenantShares`."""

    def __init__(self, most: float, request_s: Callable[[RequestView], float]) -> None:
        self._equal = TenantShares(most, request_s)
        self._equal_on = most > 0.0
        self._most = most or _EXACT
        self._request_s = request_s
        self._by_class: dict[int, TenantShares] = {}

    @property
    def on(self) -> bool:
        """True when there is a share to be kept."""
        return self._equal_on or bool(self._by_class)

    def served(self, now_s: float, running: RunningBatch, step_s: float = 0.0) -> None:
        """Book those that joined since the last step. step_s: the shortest step there is."""
        joined = [running.views[row] for row in running.joined.nonzero()[0].tolist()]
        for shares, views in self._sorted(joined):
            shares.joined(now_s, views, step_s)

    def asked(self, views: Iterable[RequestView]) -> None:
        """Book what these ask for, served or not."""
        for shares, theirs in self._sorted(views):
            shares.asked(theirs)

    def over_share(self, waiting: WaitingTable, rows: IntArray) -> FloatArray | None:
        """As `TenantShares.over_share`, of these rows of the waiting requests."""
        group, tenant = waiting.share_group[rows], waiting.tenant[rows]
        if not self._by_class:
            return self._equal.over_share(tenant)
        over = np.zeros(len(rows))
        for key, shares in ((0, self._equal), *self._by_class.items()):
            inside = group == key
            found = shares.over_share(tenant[inside]) if inside.any() else None
            if found is not None:
                over[inside] = found
        return over if over.any() else None

    def _sorted(
        self, views: Iterable[RequestView]
    ) -> Iterable[tuple[TenantShares, list[RequestView]]]:
        groups: dict[int, list[RequestView]] = {}
        for view in views:
            groups.setdefault(share_group(view.slo_class, view.weight), []).append(view)
        return [(self._shares(key), found) for key, found in groups.items()]

    def _shares(self, group: int) -> TenantShares:
        if not group:
            return self._equal
        if group not in self._by_class:
            if len(self._by_class) >= _MOST_GROUPS:
                del self._by_class[next(iter(self._by_class))]
            self._by_class[group] = TenantShares(self._most, self._request_s)
        return self._by_class[group]
