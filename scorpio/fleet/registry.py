"""Where are the replicas? Each says so every second; the fronts ask. A Ray actor with a name.

Nothing is lost when it is: it starts again, empty, and within a second all have said it again.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple, TypeVar

from scorpio.fleet.on_ray import ray

T = TypeVar("T")
BEAT_S = 1.0
FORGET_S = 5.0  # without a beat
NAMESPACE = "scorpio"


class Address(NamedTuple):
    """Of a replica, and whether it is of the fallback deployment."""

    url: str
    fallback: bool = False


class Registry:
    """Address of each replica, by its id; and how many the fronts want."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Address, float]] = {}
        self._wants: dict[str, tuple[int | None, float]] = {}

    def beat(self, replica: str, url: str, fallback: bool = False) -> None:
        """It is there."""
        self._seen[replica] = (Address(url, fallback), time.monotonic())

    def leave(self, replica: str) -> None:
        """It takes no more requests."""
        self._seen.pop(replica, None)

    def replicas(self) -> dict[str, Address]:
        """Of each that was heard of lately."""
        self._seen = _of_late(self._seen)
        return {replica: address for replica, (address, _) in self._seen.items()}

    def wants(self, front: str, replicas: int | None) -> int:
        """A front says how many there should be, None = it does not know yet. Returns how many
        fronts have said anything of late: among so many are requests shared."""
        self._wants[front] = (replicas, time.monotonic())
        self._wants = _of_late(self._wants)
        return len(self._wants)

    def wanted(self) -> int | None:
        """The most that a front of late wants; None: none has said."""
        self._wants = _of_late(self._wants)
        said = [replicas for replicas, _ in self._wants.values() if replicas is not None]
        return max(said, default=None)


def _of_late(told: dict[str, tuple[T, float]]) -> dict[str, tuple[T, float]]:
    late_s = time.monotonic() - FORGET_S
    return {name: one for name, one in told.items() if one[1] >= late_s}


def registry_of(app: str) -> Any:
    """The one registry of an application, made when it is first asked for."""
    # Detached: the replica that happened to make it may be the first one to go.
    return (
        ray()
        .remote(Registry)
        .options(
            name=f"{app}-registry",
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=3,
        )
        .remote()
    )
