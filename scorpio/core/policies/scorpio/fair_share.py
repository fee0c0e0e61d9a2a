"""Which tenant's requests are shed first? Those of a tenant that has more than its share already.

Under overload requests compete by cost and deadline; one tenant that sends ten times as much would
win most of the engine by numbers alone. Shares are max-min fair: one that asks for less than an
equal part gets all of it, and what is left is divided equally between the others. A tenant clearly
above that level loses requests before any other does. It may use what others leave: none is refused
while all can be on time, and a lone tenant has no share to keep to.

A tenant is an account (of a key that the server has checked, "" for all others) and a name within
it, which a client can make up. Accounts share the engine; the names of an account share what is its
own. A name that asks for a small part of what its account has got has no share to itself: all those
together have one, so a fresh name for each request gains nothing.

An account may have a weight: its part is that many times another's (class_shares.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.request import RequestView
from scorpio.core.tenants import account_key, tenant_key

# How long engine time counts, longer than most answers take: in seconds, or in steps where these
# are slow.
_MEMORY_S, _MEMORY_STEPS = 20.0, 1000.0
_MOST_TENANTS = 1024  # that are remembered; the one that asked for least is forgotten first
_OWN_PART = 1.0 / 16.0  # of its account's engine time; a name that asks for it has its own share
_OWN_SURPLUS = 1e-6  # of it: less than that is a rounding error, not a group of small names
Books = dict[int, float]


class TenantShares:
    """Engine time per tenant, forgotten slowly: used by requests in the batch, and asked for, by
    those and by the refused ones. `most`: fair shares a tenant may have (0: tenants are not looked
    at); `request_s`: engine time that one request takes."""

    def __init__(self, most: float, request_s: Callable[[RequestView], float]) -> None:
        self._most = most
        self._request_s = request_s
        self._used_s: Books = {}
        self._asked_s: Books = {}
        self._account_used_s: Books = {}
        self._account_asked_s: Books = {}
        self._weights: Books = {}  # by account; 1 where there is none
        self._at_s = 0.0

    def joined(self, now_s: float, views: Sequence[RequestView], step_s: float = 0.0) -> None:
        """Book those that joined since the last step. step_s: the shortest step there is."""
        if not self._most or not views:
            return
        memory_s = max(_MEMORY_S, _MEMORY_STEPS * step_s)
        keep = math.exp(-max(now_s - self._at_s, 0.0) / memory_s)
        self._at_s = now_s
        for books in self._all_books():
            for key in books:
                books[key] *= keep
        for view in views:
            _add(self._used_s, self._account_used_s, view, self._request_s(view))
        self.asked(views)

    def asked(self, views: Iterable[RequestView]) -> None:
        """Book what these ask for, served or not."""
        for view in views if self._most else ():
            _add(self._asked_s, self._account_asked_s, view, self._request_s(view))
            if view.weight:
                self._weights[account_key(tenant_key(view.tenant))] = view.weight
        _forget(self._asked_s, self._used_s)
        _forget(self._account_asked_s, self._account_used_s, self._weights)

    def over_share(self, waiting_tenant: FloatArray) -> FloatArray | None:
        """How many fair shares the tenant of each waiting request had, if too many, else 0: shares
        of its account times shares of its name within the account.

        waiting_tenant: `tenant_key` of each, [n]. None when none has too much.
        """
        if not self._most or not self._asked_s:
            return None
        accounts = _excess(self._account_asked_s, self._account_used_s, self._most, self._weights)
        own = self._own()
        names = {account: self._names_over(account, own[account]) for account in own}
        if not accounts and not any(names.values()):
            return None
        over, account_of = np.zeros(len(waiting_tenant)), account_key(waiting_tenant)
        for account, found in names.items():
            factor = accounts.get(account, 0.0)
            if not factor and not found:
                continue
            small = found.pop(-1, 0.0)
            over[account_of == account] = _both(factor, small)
            for key in [k for k in own[account] if small or k in found]:
                over[waiting_tenant == key] = _both(factor, found.get(key, 0.0))
        return over

    def _names_over(self, account: int, keys: list[int]) -> Books:
        """Names of an account with more than their part of it, by key; -1: all small ones. keys:
        of those that have a share to themselves."""
        asked_s = {key: self._asked_s[key] for key in keys}
        used_s = {key: self._used_s.get(key, 0.0) for key in keys}
        all_s = self._account_asked_s[account]
        small_s = all_s - sum(asked_s.values())
        if small_s > _OWN_SURPLUS * all_s:
            used = self._account_used_s.get(account, 0.0) - sum(used_s.values())
            asked_s[-1], used_s[-1] = small_s, max(used, 0.0)
        return _excess(asked_s, used_s, self._most, {})

    def _own(self) -> dict[int, list[int]]:
        """By account: keys of the names that have a share to themselves."""
        own: dict[int, list[int]] = {account: [] for account in self._account_asked_s}
        for key, asked_s in self._asked_s.items():
            account = account_key(key)
            if account in own and asked_s >= self._account_used_s.get(account, 0.0) * _OWN_PART:
                own[account].append(key)
        return own

    def _all_books(self) -> tuple[Books, ...]:
        return self._used_s, self._asked_s, self._account_used_s, self._account_asked_s


def _add(names: Books, accounts: Books, view: RequestView, seconds: float) -> None:
    key = tenant_key(view.tenant)
    names[key] = names.get(key, 0.0) + seconds
    account = account_key(key)
    accounts[account] = accounts.get(account, 0.0) + seconds


def _forget(asked_s: Books, *others: Books) -> None:
    while len(asked_s) > _MOST_TENANTS:
        least = min(asked_s, key=asked_s.__getitem__)
        del asked_s[least]
        for books in others:
            books.pop(least, None)


def _excess(asked_s: Books, used_s: Books, most: float, weights: Books) -> Books:
    """Fair shares of each tenant that had more than `most`."""
    if len(asked_s) < 2:
        return {}
    weight = np.array([weights.get(key, 1.0) for key in asked_s])
    level_s = _level_s(np.array(list(asked_s.values())), weight, sum(used_s.values()))
    fair_s = {key: weights.get(key, 1.0) * level_s for key in used_s}
    return {key: used / fair_s[key] for key, used in used_s.items() if used > most * fair_s[key]}


def _both(account: float, name: float) -> float:
    """Shares of two levels as one number; 0 = not too many."""
    return account * name if account and name else account or name


def _level_s(asked_s: FloatArray, weight: FloatArray, served_s: float) -> float:
    """Water level: if none had more than this, times its weight, of what they asked for, `served_s`
    would be used.

    One that asked for less is satisfied; inf when all are.
    """
    order = np.argsort(asked_s / weight)
    asked_s, weight = asked_s[order], weight[order]
    satisfied_s = np.concatenate(([0.0], np.cumsum(asked_s)[:-1]))
    levels_s = (served_s - satisfied_s) / np.cumsum(weight[::-1])[::-1]
    short = np.flatnonzero(levels_s < asked_s / weight)
    return max(float(levels_s[short[0]]), 1e-9) if len(short) else math.inf
