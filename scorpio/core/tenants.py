"""Whose request is it? An account, which the server has checked, and a name within it.

The account is "" for all that the server has not checked; the name is what a client writes, so
any client can make one up.
"""

from __future__ import annotations

from typing import TypeVar

from scorpio.core.arrays import FloatArray

_Keys = TypeVar("_Keys", int, FloatArray)
_GROUPS = 1 << 52
_ACCOUNTS, _NAMES = 1 << 32, 1 << 21  # together the 53 bits that a column of floats holds


def tenant_id(account: str, name: str) -> str:
    """An account and a name as one text, "" for neither. An account holds no "/"."""
    return f"{account}/{name}" if account or "/" in name else name


def tenant_key(tenant: str) -> int:
    """A `tenant_id` as a number that columns can hold.

    Python's hash of text has a secret in each process: no client can choose a name that counts as
    another's. An account differs from all of another account's names in the upper bits alone.
    """
    account, slash, name = tenant.partition("/")
    if not slash:
        account, name = "", tenant
    return hash(account) % _ACCOUNTS * _NAMES + hash(name) % _NAMES


def share_group(slo_class: str, weight: float) -> int:
    """Requests with this number compete for shares: those of one class, where their tenants have
    weights; 0 = all others."""
    return 1 + hash(slo_class) % _GROUPS if weight else 0


def account_key(tenant: _Keys) -> _Keys:
    """The account's part of a `tenant_key`, or of a column of them."""
    return tenant // _NAMES
