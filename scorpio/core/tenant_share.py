"""Whose requests go first when some must? Those of a tenant that has more than its share already.

Under overload requests compete by cost and deadline; one tenant that sends ten times as much would
win most of the engine by numbers alone. Shares are max-min fair: who asks for less than an equal
part gets all of it, and what is left is divided equally between the others. A tenant clearly above
that level loses requests before anybody else does. It may use what others leave: nobody is refused
while all can be on time, and a lone tenant has no share to keep to.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from scorpio.core.views import FloatArray, RequestView, RunningBatch

# How long engine time counts, longer than most answers take: in seconds, or in steps where these
# are slow.
_MEMORY_S, _MEMORY_STEPS = 20.0, 1000.0
_MOST_TENANTS = 1024  # that are remembered; the one that asked for least is forgotten first


def tenant_key(tenant: str) -> int:
    """A tenant as a number that columns can hold."""
    return zlib.crc32(tenant.encode(errors="surrogatepass"))  # no string may raise here


class TenantShares:
    """Engine time per tenant, forgotten slowly: used by requests in the batch, and asked for, by
    those and by the refused ones. `most`: fair shares a tenant may have (0: tenants are not looked
    at); `request_s`: engine time that one request takes."""

    def __init__(self, most: float, request_s: Callable[[RequestView], float]) -> None:
        self._most = most
        self._request_s = request_s
        self._used_s: dict[int, float] = {}
        self._asked_s: dict[int, float] = {}
        self._at_s = 0.0

    def served(self, now_s: float, running: RunningBatch, step_s: float = 0.0) -> None:
        """Book who joined the batch since the last step. step_s: the shortest step there is."""
        joined = np.flatnonzero(running.joined).tolist() if self._most else []
        if not joined:
            return
        memory_s = max(_MEMORY_S, _MEMORY_STEPS * step_s)
        keep = math.exp(-max(now_s - self._at_s, 0.0) / memory_s)
        self._at_s = now_s
        for books in (self._used_s, self._asked_s):
            for key in books:
                books[key] *= keep
        for row in joined:
            view = running.views[row]
            _add(self._used_s, view, self._request_s(view))
        self.asked(running.views[row] for row in joined)

    def asked(self, views: Iterable[RequestView]) -> None:
        """Book what these ask for, served or not."""
        for view in views if self._most else ():
            _add(self._asked_s, view, self._request_s(view))
        while len(self._asked_s) > _MOST_TENANTS:
            least = min(self._asked_s, key=self._asked_s.__getitem__)
            del self._asked_s[least]
            self._used_s.pop(least, None)

    def over_share(self, waiting_tenant: FloatArray) -> FloatArray | None:
        """How many fair shares the tenant of each waiting request had, if too many, else 0.

        waiting_tenant: `tenant_key` of each, [n]. None when nobody has too much.
        """
        if len(self._asked_s) < 2 or not self._most:
            return None
        level_s = _level_s(np.array(list(self._asked_s.values())), sum(self._used_s.values()))
        shares = {
            key: used_s / level_s
            for key, used_s in self._used_s.items()
            if used_s > self._most * level_s
        }
        if not shares:
            return None
        over = np.zeros(len(waiting_tenant))
        for key, share in shares.items():
            over[waiting_tenant == key] = share
        return over


def _add(books: dict[int, float], view: RequestView, seconds: float) -> None:
    key = tenant_key(view.tenant)
    books[key] = books.get(key, 0.0) + seconds


def _level_s(asked_s: FloatArray, served_s: float) -> float:
    """Water level: if nobody had more than this of what they asked for, `served_s` would be used.

    Who asked for less is satisfied; inf when all are.
    """
    asked_s = np.sort(asked_s)
    satisfied_s = np.concatenate(([0.0], np.cumsum(asked_s)[:-1]))
    levels_s = (served_s - satisfied_s) / np.arange(len(asked_s), 0, -1)
    short = np.flatnonzero(levels_s < asked_s)
    return max(float(levels_s[short[0]]), 1e-9) if len(short) else math.inf
