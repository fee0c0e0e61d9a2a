"""The one interface: what should the engine do in this step?

A policy is pure: `now_s` is an argument, its state is explicit in its attributes, it reads no
clock and no file and draws no random number. The same object runs inside vLLM's EngineCore on
real time and in the twin on virtual time.
"""

from __future__ import annotations

from typing import Protocol

from scorpio.core.plan import StepPlan
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample


class Policy(Protocol):
    """Question: which requests join, decode, wait or are refused, and how much prefill is done?"""

    name: str
    passive: bool  # True: plan() is always stock, so the engine need not draw the picture

    def queue_key(self, view: RequestView) -> float:
        """Sort key of a waiting request, computed once on entry; smaller is served earlier."""

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        """Decide one step. Must not change `snapshot`; may raise: the engine then runs stock."""

    def observe(self, sample: StepSample) -> None:
        """Learn from an executed step (online); may do nothing."""
