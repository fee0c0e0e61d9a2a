"""Whose LoRA adapter has a place in the batch? vLLM computes at most `max_loras` in one step.

vLLM counts the adapters of those it computes in a step, so one that a plan lets sit out would lose
its place, and the step after that would hold too many: vLLM asserts that it never does.
"""

from __future__ import annotations

from collections.abc import Iterable

from scorpio.core.views import RequestView, Snapshot


class AdapterPlaces:
    """The adapters of the running batch, those that sit out included, and of those that join."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._most = snapshot.limits.max_adapters
        views = snapshot.running.views if self._most else ()
        self._held = {view.adapter for view in views if view.adapter}

    def free_for(self, view: RequestView) -> bool:
        """May this request join, as far as adapters go?"""
        wanted = view.adapter if self._most else 0
        return not wanted or wanted in self._held or len(self._held) < self._most

    def take(self, view: RequestView) -> None:
        """It joins."""
        if view.adapter:
            self._held.add(view.adapter)

    def of(self, views: Iterable[RequestView]) -> list[RequestView]:
        """Those of these that may join together, first come first served."""
        joining = []
        for view in views:
            if self.free_for(view):
                self.take(view)
                joining.append(view)
        return joining
