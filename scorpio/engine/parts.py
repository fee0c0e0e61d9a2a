"""What stands beside vLLM's scheduler, and how is it wired? The parts, and what they know together.

Nothing here is called by vLLM: that is `ScorpioScheduler` (scheduler.py), which is this class with
vLLM's methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.routing.load import Replica, ReplicaLoad
from scorpio.core.snapshot import Snapshot
from scorpio.engine import seams
from scorpio.engine.canary import Canary
from scorpio.engine.caps import Caps
from scorpio.engine.control import PolicySwitch
from scorpio.engine.features import unsupported_features
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.images import Images
from scorpio.engine.ledger.book import Ledger
from scorpio.engine.ledger.facts import engine_facts
from scorpio.engine.lockstep import LockstepScheduler, steps_together
from scorpio.engine.parent_watch import follow_server
from scorpio.engine.policy_off import PolicyOff
from scorpio.engine.record.crash_dump import withhold_client_text
from scorpio.engine.record.encoder_time import EncoderTime
from scorpio.engine.record.faults import POLICY, Breaker
from scorpio.engine.record.load_report import replica_load, waiting_now
from scorpio.engine.record.step_timer import StepTimer
from scorpio.engine.record.telemetry import Telemetry
from scorpio.engine.refusals import Refusals
from scorpio.engine.seeds import SeedGuard
from scorpio.engine.shadow.shadow import Shadow
from scorpio.engine.view.choices import Choices
from scorpio.engine.view.drafts import Drafts
from scorpio.engine.view.picture import engine_limits, kv_free_tokens, rank, snapshot
from scorpio.engine.view.prefix_hits import PrefixHits
from scorpio.engine.view.remote_kv import expected, loading
from scorpio.engine.view.request_facts import describe, plain, to_be_answered
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.serving_clock import ServingClock
from scorpio.engine.view.sessions import RefusedSessions
from scorpio.engine.view.tracker import Tracker
from scorpio.settings import load_settings

logger = init_logger("vllm.scorpio")
_PASSTHROUGH = (
    "Scorpio does not support %s: this engine is served as stock vLLM serves it (passthrough). "
    "Requests are counted; none is delayed or refused for its SLO"
)
T = TypeVar("T")


class SchedulerWithParts(LockstepScheduler):
    """Raises at construction (the server does not start): SettingsError, UnsupportedConfigError,
    IncompatibleVllmError.

    vLLM takes Scheduler or AsyncScheduler, as async scheduling is off or on; a plug-in is one
    class. It is the second one, and without async scheduling its methods are the first one's.
    """

    max_num_scheduled_tokens: int

    def _update_after_schedule(self, scheduler_output: SchedulerOutput) -> None:
        if self.scheduler_config.async_scheduling:
            super()._update_after_schedule(scheduler_output)
        else:
            Scheduler._update_after_schedule(self, scheduler_output)

    def _update_request_with_output(
        self, request: Request, new_token_ids: list[int], is_stale: bool = False
    ) -> tuple[list[int], bool]:
        base = AsyncScheduler if self.scheduler_config.async_scheduling else Scheduler
        return base._update_request_with_output(self, request, new_token_ids, is_stale)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        seams.check_vllm()
        follow_server()
        withhold_client_text()
        super().__init__(*args, **kwargs)
        settings = load_settings(self.vllm_config.additional_config)
        # What is on and not supported: then all is stock, and only looked at.
        self._passthrough = unsupported_features(self, settings.unsupported)
        if self._passthrough:
            logger.warning(_PASSTHROUGH, ", ".join(self._passthrough))
        else:
            seams.check_scheduler(self)
        self._book = settings.slo_book()
        self._follows_server = settings.slo_config is not None
        self._limits = engine_limits(self)
        self._switch = PolicySwitch(settings, self._limits, self._passthrough)
        self._policy = self._switch.policy
        # The clocks are looked up at each call: a subclass may set them later.
        self._telemetry = Telemetry(
            settings.run_dir, settings.unnamed_class, lambda: self.wall_s(), rank(self)
        )
        self._ledger, self._settings = Ledger(settings, rank(self)), settings
        self._describe_engine()
        window_s, quiet_s = settings.breaker_window_s, settings.breaker_quiet_s
        self._off = PolicyOff(settings)
        self._canary = Canary(settings.canary, settings.unnamed_class)
        self._look_breaker = Breaker(1, window_s, quiet_s)
        build = None if self._passthrough else self._switch.build
        self._shadow = Shadow(settings, build, self._telemetry.faults, lambda: self.now_s())
        self._timer = StepTimer(steps_together(self))
        self._encoder, self._images = EncoderTime(), Images()
        self._clock = ServingClock(lambda: self.now_s())
        self._drafts = Drafts(self)
        self._tracker = Tracker(self.max_num_running_reqs, self._drafts.on)
        self._refusals = Refusals(settings.refusals_as_errors)
        self._choices = Choices()
        self._sessions = RefusedSessions()
        self._seeds = SeedGuard()
        self._caps = Caps.of(settings)
        self._seq = 0
        self._woken = self._idled = False
        self._prefix_hits = self._new_looks()
        self.waiting: GatedQueue = GatedQueue(
            self._tracked_of,
            self._policy.queue_key,
            self._fall_back,
            by_priority=self.scheduler_config.policy == "priority",
            new_table=self._shadow.new_table,
        )
        if settings.latency is None and self._policy.name != "fcfs":
            logger.warning("No latency profile: run `scorpio profile`; until then nothing is timed")
        if settings.run_dir is not None:  # routers send nothing to a server that has said nothing
            self._publish(force=True)

    def now_s(self) -> float:
        """The one clock; what requests see of it is `ServingClock`'s. The twin overrides it."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Wall clock, only compared with `Request.arrival_time` and told to people."""
        return time.time()

    def planning_s(self) -> float:
        """What planning the last step has cost, as the policy is judged by it."""
        return self._telemetry.last_plan_s

    def why_off(self) -> str:
        """Why it is off; "" while it is on."""
        return self._off.why(self.now_s())

    def use_policy(self, policy: Policy) -> None:
        """From the next step on, this policy decides; the queue is re-ordered at once."""
        self._policy = policy
        self._telemetry.restart_windows()
        self._off.restart()
        self.waiting.rekey(policy.queue_key)

    @property
    def policy_switch(self) -> PolicySwitch:
        """Builds policies for this engine."""
        return self._switch

    def replica(self) -> Replica:
        """What does not change of it, for a router or a quote."""
        return Replica.of(self._switch.profile, self._limits)

    def load(self, at_s: float) -> ReplicaLoad:
        """What a router may know of it. at_s: now, on the router's clock."""
        running = [(request, self.view_of(request)) for request in self.running]
        free = kv_free_tokens(self, self._limits)
        return replica_load(running, self.waiting, free, self.now_s(), at_s, len(loading(self)))

    @property
    def tracked_ids(self) -> set[str]:
        """Requests that we still know of; never others than vLLM does (invariant 6)."""
        return self._tracker.ids | self._ledger.ids | self._shadow.ids

    def view_of(self, request: Request) -> RequestView:
        """What is known of a live request."""
        return self._tracked_of(request).view

    @property
    def ledger(self) -> Ledger:
        """What became of each request (read only)."""
        return self._ledger

    @property
    def telemetry(self) -> Telemetry:
        """Counters since start (read only)."""
        return self._telemetry

    def _describe_engine(self) -> None:
        """In the ledger: what is in force from here on."""
        switch = self._switch
        with self._telemetry.watched():
            chosen = (switch.policy.name, switch.options)
            facts = engine_facts(self, self._limits, self._settings, chosen, switch.profile)
            self._ledger.describe(facts)

    def _look(self, ask: Callable[[PrefixHits], T], otherwise: T) -> T:
        """Ask the prefix cache. One odd request must not switch the policy off by the breaker: when
        a look fails there are no more of them for a while, and the policy goes on without."""
        if self._prefix_hits is None or self._look_breaker.is_open(self.now_s()):
            return otherwise
        try:
            return ask(self._prefix_hits)
        except Exception as error:
            self._look_breaker.failed(self.now_s())
            self._prefix_hits = self._new_looks()  # what it knew may be torn
            self._telemetry.faults.note(POLICY, error)
            return otherwise

    def _new_looks(self) -> PrefixHits | None:
        manager = self.kv_cache_manager
        looks = manager.enable_caching and not self._passthrough
        # A draft model drops the last block of a hit: only vLLM's own search knows.
        return PrefixHits(manager, whole=self.use_eagle_block_drop) if looks else None

    def _harmless(self, request: Request) -> None:
        try:
            self._seeds.take(request)
        except Exception as error:
            self._fall_back(error)

    def _is_stock(self) -> bool:
        passive = self._policy.passive and not (self._switch.record_steps or self._shadow.watching)
        return bool(self._passthrough) or passive or bool(self.why_off())

    def _snapshot(self) -> Snapshot:
        self.waiting.look_again(self.deferred_waiting)
        self._images.let_in(self, self.waiting, self._tracker.live, self._clock.now_s())
        batch, since_s = self._tracker.batch(self.running), self._timer.executing_since_s()
        limits = self._drafts.left(self._limits)
        seen = snapshot(self, limits, batch, self.waiting.table, since_s)
        seen.drafts = self._drafts.view()
        return seen

    def _describe(self, request: Request) -> RequestView:
        self._seq += 1
        arrival_s = self._clock.arrival_s(self.wall_s() - request.arrival_time)
        try:
            view = describe(request, self._seq, arrival_s, self._book, self._follows_server)
        except Exception as error:
            self._fall_back(error)
            view = plain(request, self._seq, arrival_s, self._book.default)
        view = self._canary.seen_by_policy(view, self._choices.body_of(request.request_id))
        if not self._choices.may_be_refused(request.request_id):
            view = to_be_answered(view)
        if self._is_stock():
            return view
        where = self.waiting.table, self._tracker.live
        return self._look(lambda hits: hits.arrived(request, view, *where), view)

    def _tracked_of(self, request: Request) -> Tracked:
        tracked = self._tracker.live[request.request_id]
        if self.connector is not None and self._prefix_hits is None:
            tracked.view = expected(request, tracked.view)
        return tracked

    def _state(self) -> dict[str, object]:
        return (
            self._switch.state()
            | self._ledger.state()
            | self._off.state(self.now_s())
            | self._canary.state()
            | self._shadow.state()
            | waiting_now(self, self.waiting)
            | {
                "passthrough": bool(self._passthrough),
                "unsupported_features": ", ".join(self._passthrough),
                "paused": self._clock.paused,
                "seeds_dropped": self._seeds.dropped,
                "encoder_share": round(self._encoder.share, 3),
                "tokens_per_step": round(self._drafts.tokens_per_step, 3),
                # for routers, scorpio/server/state/load.py
                "replica": self.replica().to_dict(),
                "load": self.load(self.wall_s()).to_dict(),
            }
        )

    def _publish(self, force: bool = False) -> None:
        self._telemetry.publish(self.now_s(), self._state, force)

    def _work_came(self) -> None:
        """To an engine that had none: from here on it should make progress, and say so."""
        self._telemetry.came_back()
        self._woken = True

    def _called(self) -> None:
        if self._clock.called(self.has_unfinished_requests(), self._timer.longest_s):
            self._timer.interrupted()

    def _fall_back(self, error: Exception) -> None:
        self._telemetry.faults.note(POLICY, error)
        self._off.failed(self.now_s())
