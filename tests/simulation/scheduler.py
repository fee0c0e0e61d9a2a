"""The served scheduler with a microscope on it: what it saw, what it planned, when it failed.

Nothing here decides anything: the policy is looked at through a window that can be made to break.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scorpio.core.plan import StepPlan
from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.engine.virtual.requests import SchedulerOutput
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler

Look = Callable[[float, Snapshot, StepPlan, Policy], None]


class InjectedError(RuntimeError):
    """A failure of a policy that the simulation asked for."""


class Window:
    """The policy, watched. `fail_next`: so many calls of `plan` raise from now on; `bad_keys`: some
    requests have no usable key."""

    def __init__(self, policy: Policy) -> None:
        self.inner = policy
        self.name, self.passive = policy.name, policy.passive
        self.fail_next = 0
        self.bad_keys = False
        self.failed = 0
        self.look: Look | None = None
        self.plan_made: StepPlan | None = None
        self.seen: Snapshot | None = None

    def queue_key(self, view: RequestView) -> float:
        if self.bad_keys and view.seq % 7 == 3:
            self.failed += 1
            if view.seq % 2:
                raise InjectedError("no key for this request")
            return math.nan
        return self.inner.queue_key(view)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        self.plan_made, self.seen = None, snapshot
        if self.fail_next:
            self.fail_next -= 1
            self.failed += 1
            raise InjectedError("the policy fails, as the simulation wishes")
        self.plan_made = self.inner.plan(now_s, snapshot)
        if self.look is not None:
            self.look(now_s, snapshot, self.plan_made, self.inner)
        return self.plan_made

    def observe(self, sample: StepSample) -> None:
        self.inner.observe(sample)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WatchedScheduler(VirtualScorpioScheduler):
    """`window` is the policy of now; `wall_offset_s` is how wrong the wall clock is."""

    wall_offset_s = 0.0
    bad_keys = False
    _plan_look: Look | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.windows: list[Window] = []  # of all policies so far
        self.use_policy(self._policy)

    def wall_s(self) -> float:
        return self.clock.now_s + self.wall_offset_s

    def use_policy(self, policy: Policy) -> None:
        window = policy if isinstance(policy, Window) else Window(policy)
        window.bad_keys, window.look = self.bad_keys, self._plan_look
        self.windows.append(window)
        super().use_policy(window)

    def watch_plans(self, look: Look) -> None:
        """Show it every plan, before anything is done with it."""
        self._plan_look = self.window.look = look

    @property
    def window(self) -> Window:
        """The policy that decides now."""
        assert isinstance(self._policy, Window)
        return self._policy

    @property
    def serving_s(self) -> float:
        """The clock that requests' deadlines are on."""
        return self._clock.now_s()

    def live_view(self, request_id: str) -> RequestView:
        """What the adapter knows of a live request."""
        return self._tracker.live[request_id].view

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        window = self.window
        window.plan_made = window.seen = None
        return super().schedule(throttle_prefills)
