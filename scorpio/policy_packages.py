"""Which policies do other packages bring? Entry points of the group `scorpio.policies`.

Every process that takes the name of a policy asks here: the commands, both processes of a server
and the twin. A package is imported when its policy is asked for, so one that is broken stops
nothing but itself. docs/policies/write-your-own.md says what a package holds.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points

from scorpio.core.registry import Offer, PolicyKind, policy_names, register

GROUP = "scorpio.policies"
logger = logging.getLogger("vllm.scorpio")


def all_policies() -> tuple[str, ...]:
    """Names of all policies, those of installed packages too, sorted."""
    _look()
    return policy_names()


@cache  # looking through all packages takes tens of milliseconds
def _look() -> None:
    for entry in entry_points(group=GROUP):
        origin = _origin(entry)
        try:
            register(entry.name, Offer(origin, partial(_load, entry, origin)))
        except ValueError as error:
            logger.warning("Scorpio: %s", error)


def _origin(entry: EntryPoint) -> str:
    package = (
        "an unnamed package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    )
    return f"{package} ({entry.value})"


def _load(entry: EntryPoint, origin: str) -> PolicyKind:
    """Raises ValueError."""
    try:
        found = entry.load()
    except Exception as error:  # its import may do anything
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"policy {entry.name!r} of {origin} cannot be loaded: {problem}"
        ) from error
    if not isinstance(found, PolicyKind):
        raise ValueError(
            f"policy {entry.name!r} of {origin} must be a scorpio.core.registry.PolicyKind, got"
            f" {type(found).__name__}"
        )
    return found
