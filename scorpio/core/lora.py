"""Which LoRA adapters have a place in the batch? vLLM computes at most `max_loras` in one step.

vLLM counts the adapters of those it computes in a step, so one that a plan lets sit out would lose
its place, and the step after that would hold too many: vLLM asserts that it never does.
"""

from __future__ import annotations

from collections.abc import Iterable

from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot


class AdapterPlaces:
    """The adapters of the running batch, those that sit out included, and of those that join."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._most = snapshot.limits.max_adapters
        self._running = snapshot.running
        views = self._running.views if self._most else ()
        self._held = {view.adapter for view in views if view.adapter}
        self._kept = self._leaving = 0

    def free_for(self, view: RequestView) -> bool:
        """May this request join, as far as adapters go?"""
        wanted = view.adapter if self._most else 0
        if wanted in self._held:
            return wanted != self._leaving
        kept = self._kept not in (0, wanted)
        return not wanted or len(self._held) + kept < self._most

    def keep_for(self, view: RequestView) -> None:
        """From now on none that joins takes the place that this one's adapter needs. Are all
        taken, the adapter whose answers end first gets none that is new: by `max_tokens`, so it
        stays the same one from step to step. The other places stay in use."""
        if not self.free_for(view):
            self._leaving = self._first_out()
        if view.adapter not in self._held:
            self._kept = view.adapter

    def take(self, view: RequestView) -> None:
        """It joins."""
        if view.adapter:
            self._held.add(view.adapter)
        if view.adapter == self._kept:
            self._kept = self._leaving = 0

    def of(self, views: Iterable[RequestView]) -> list[RequestView]:
        """Those of these that may join together, first come first served."""
        joining = []
        for view in views:
            if self.free_for(view):
                self.take(view)
                joining.append(view)
        return joining

    def _first_out(self) -> int:
        left: dict[int, int] = {}
        running = zip(self._running.views, self._running.output_tokens.tolist(), strict=True)
        for view, output in running:
            left[view.adapter] = max(view.max_tokens - output, left.get(view.adapter, 0))
        left.pop(0, None)
        return min(left, key=lambda adapter: (left[adapter], adapter), default=0)
