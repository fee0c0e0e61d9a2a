"""How does the shadow learn of who waits? From the table of the serving policy, as it changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable


class Listener(Protocol):
    """Told of each change, after it; raises nothing."""

    def queued(self, view: RequestView, started: bool) -> None:
        """It waits from now on. started: it has run before."""

    def revised(self, view: RequestView) -> None:
        """Its view has changed in what is cached or shared."""

    def dequeued(self, request_ids: Collection[str]) -> None:
        """They wait no longer."""


class FollowedTable(WaitingTable):
    """A table whose changes a listener hears of."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def add(self, view: RequestView, key: float, started: bool = False) -> None:
        super().add(view, key, started)
        self._listener.queued(view, started)

    def recache(self, view: RequestView) -> None:
        super().recache(view)
        self._listener.revised(view)

    def remove(self, request_id: str) -> RequestView | None:
        found = super().remove(request_id)
        if found is not None:
            self._listener.dequeued((request_id,))
        return found

    def remove_many(self, request_ids: Collection[str]) -> None:
        super().remove_many(request_ids)
        self._listener.dequeued(request_ids)
