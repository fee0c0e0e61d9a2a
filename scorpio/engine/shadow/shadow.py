"""What would another policy have done? It is asked in each step, and never obeyed.

The shadow gets the snapshots of the serving policy, with a queue in its own order. Its plan is
checked and written down, not carried out: what vLLM schedules is what it would be without it. So it
sees only states that the serving policy made; what would have come of its plans the twin says
(`scorpio shadow-report`). No error of it leaves this class. One that fails too often, or costs more
than `shadow_most_share` of the time of the steps, is off for `breaker_quiet_s` and starts anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial

from vllm.logger import init_logger

from scorpio.core.plan import StepPlan
from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.snapshot import RunningBatch, Snapshot, StepSample
from scorpio.core.waiting import WaitingTable
from scorpio.engine.plan_check import check_plan
from scorpio.engine.record.cost_share import CostShare
from scorpio.engine.record.faults import SHADOW, Breaker, Faults
from scorpio.engine.shadow.said import Said
from scorpio.engine.shadow.table import FollowedTable
from scorpio.ledger.entry import ShadowVerdict, ShadowWord
from scorpio.settings import ScorpioSettings

logger = init_logger("vllm.scorpio")
_STEPS = 128  # after so many its cost is looked at
_OFF = "Shadow %s is off for %.0f s: %s"


class Shadow:
    """build: a policy by name and options; None = there is no shadow, whatever the settings say.
    faults: where errors are counted. now_s: the engine's clock."""

    def __init__(
        self,
        settings: ScorpioSettings,
        build: Callable[[str, Mapping[str, float]], Policy] | None,
        faults: Faults,
        now_s: Callable[[], float],
    ) -> None:
        name, options = settings.shadow, settings.shadow_options
        self._name = name or ""
        self._make: Callable[[], Policy] | None = None
        if build is not None and name is not None:
            self._make = partial(build, name, options)
        self._faults, self._now_s = faults, now_s
        self._quiet_s, self._most_share = settings.breaker_quiet_s, settings.shadow_most_share
        self._breaker = Breaker(settings.breaker_limit, settings.breaker_window_s, self._quiet_s)
        self._policy: Policy | None = None
        self._off_until_s, self._why_off = float("-inf"), ""
        self._followed: FollowedTable | None = None
        self._waiting = WaitingTable()  # in its own order, without those that it has refused
        self._said: dict[str, Said] = {}
        self._plan: StepPlan | None = None  # of the step that is being scheduled
        self._planned_s = 0.0
        self._counts: Counter[ShadowVerdict] = Counter()
        self._reasons: Counter[str] = Counter()
        self._cost = CostShare(_STEPS)
        self.took_s = 0.0  # of the step that was planned last
        self.restart()

    @property
    def watching(self) -> bool:
        """Is it asked?"""
        return self._policy is not None

    @property
    def ids(self) -> set[str]:
        """Requests of which something is noted."""
        return self._said.keys() | {view.request_id for view in self._waiting}

    def new_table(self) -> WaitingTable:
        """For the serving policy's queue: one that the shadow can follow, where there is one."""
        if self._make is None:
            return WaitingTable()
        self._waiting = WaitingTable()
        self._followed = FollowedTable(self)
        return self._followed

    def restart(self) -> None:
        """It has learned nothing yet: at the start, with another profile, or after a pause."""
        self._plan, self._waiting = None, WaitingTable()
        if self._make is None:
            return
        with self._guarded():
            self._policy, self._why_off = self._make(), ""
        for row, view in enumerate(self._followed or ()):
            assert self._followed is not None
            self.queued(view, bool(self._followed.started[row]))

    def begin(self, now_s: float) -> None:
        """A step is to be planned; a shadow that was off for long enough starts anew."""
        self._plan, self.took_s = None, 0.0
        if self._policy is None and self._make is not None and now_s >= self._off_until_s:
            self.restart()

    def look(self, now_s: float, seen: Snapshot, since_s: float) -> None:
        """What would it do now? since_s: by `time.perf_counter`, when work for it began."""
        if self._policy is None:
            return
        with self._guarded():
            own = replace(
                seen,
                running=_copy(seen.running),
                waiting=self._waiting,
                computing=dict(seen.computing),
            )
            plan = self._policy.plan(now_s, own)
            if not plan.stock:
                check_plan(plan, own)
            self._note(plan, now_s)
            self._plan, self._planned_s = plan, now_s
        self.took_s = time.perf_counter() - since_s
        self._cost.spent(self.took_s)

    def started(self, request_ids: Iterable[str]) -> None:
        """vLLM starts these in this step."""
        plan = self._plan
        if plan is None:
            return
        unplanned = plan.stock or plan.admit is None
        for request_id in request_ids:
            said = self._said.get(request_id)
            if said is not None and said.verdict is ShadowVerdict.NONE:
                self._counts[said.started(self._planned_s, unplanned)] += 1

    def observe(self, sample: StepSample) -> None:
        """A step came back: it learns from it, and its cost is held against it."""
        if self._policy is None:
            return
        with self._guarded():
            self._policy.observe(sample)
        if self._cost.stepped(sample.duration_s) and self._cost.share > self._most_share:
            took, most = 100.0 * self._cost.share, 100.0 * self._most_share
            self._turn_off(f"it took {took:.1f} % of the steps' time, at most {most:g} %")

    def failed(self, error: Exception) -> None:
        """One more error, in it or in what is made for it alone."""
        now_s = self._now_s()
        self._faults.note(SHADOW, error)
        self._breaker.failed(now_s)
        if self._breaker.is_open(now_s):
            self._turn_off(f"it failed too often, the last time with {type(error).__name__}")

    def gone(self, request_id: str, arrival_s: float) -> ShadowWord | None:
        """A request leaves the engine: what was said of it; None when it was never asked."""
        said = self._said.pop(request_id, None)
        return None if said is None else said.word(arrival_s)

    def queued(self, view: RequestView, started: bool) -> None:
        if self._policy is None:
            return
        said = self._said.setdefault(view.request_id, Said(self._name))
        if said.verdict is ShadowVerdict.REFUSED:
            return
        with self._guarded():
            self._waiting.remove(view.request_id)
            self._waiting.add(view, float(self._policy.queue_key(view)), started)

    def revised(self, view: RequestView) -> None:
        if view.request_id in self._waiting:
            self._waiting.recache(view)

    def dequeued(self, request_ids: Collection[str]) -> None:
        self._waiting.remove_many(request_ids)

    def state(self) -> dict[str, object]:
        """For status.json; nothing without a shadow."""
        if self._make is None:
            return {}
        return {
            "shadow": {
                "policy": self._name,
                "watching": self.watching,
                "off_because": self._why_off,
                "errors": self._faults.counts[SHADOW],
                "cost_share": round(self._cost.share, 4),
                "requests": {v.value: n for v in ShadowVerdict if (n := self._counts[v])},
                "refused_by_reason": dict(self._reasons),
            }
        }

    def _note(self, plan: StepPlan, now_s: float) -> None:
        # Of a prompt that has begun it has said its word: when it would have let it in.
        reject = [r for r in plan.reject if r.request_id in self._waiting]
        for rejection in reject:
            said = self._said[rejection.request_id]
            said.refuses(rejection, now_s)
            self._counts[said.verdict] += 1
            self._reasons[rejection.reason.value] += 1
        self._waiting.remove_many([rejection.request_id for rejection in reject])
        for request_id in plan.admit or ():
            if (known := self._said.get(request_id)) is not None:
                known.lets_in(now_s)
        for forecast in plan.forecasts:
            known = self._said.get(forecast.request_id)
            if known is not None and known.forecast is None:
                known.forecast = forecast

    def _turn_off(self, why: str) -> None:
        self._policy = self._plan = None
        self._waiting = WaitingTable()
        self._off_until_s, self._why_off = self._now_s() + self._quiet_s, why
        logger.warning(_OFF, self._name, self._quiet_s, why)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed(error)


def _copy(batch: RunningBatch) -> RunningBatch:
    """Nothing that it writes there reaches the serving policy."""
    return RunningBatch(**{f.name: getattr(batch, f.name).copy() for f in fields(batch)})
