"""When does the policy decide? The adapter: snapshot -> plan -> apply -> stock schedule().

It decides nothing. Every plan is computed and checked before the first mutation; whatever goes
wrong there makes the step stock FCFS. No exception of ours leaves a method of this class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import STOCK_STEP, FinalState, Forecast, Rejection, StepPlan
from scorpio.core.policy import Policy
from scorpio.core.slo import OnMiss
from scorpio.core.views import EngineLimits, RequestView, Snapshot
from scorpio.engine import seams
from scorpio.engine.apply import apply_plan, starting
from scorpio.engine.choices import Choices
from scorpio.engine.conservation import filled, with_a_decode
from scorpio.engine.control import PolicySwitch
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.parent_watch import follow_server
from scorpio.engine.plan_check import check_plan
from scorpio.engine.prefix_hits import PrefixHits
from scorpio.engine.refusals import Refusals
from scorpio.engine.request_facts import describe
from scorpio.engine.running_table import Tracked
from scorpio.engine.seeds import SeedGuard
from scorpio.engine.serving_clock import ServingClock
from scorpio.engine.step_timer import StepTimer
from scorpio.engine.telemetry import Telemetry
from scorpio.engine.tracker import Tracker
from scorpio.settings import load_settings

logger = init_logger("vllm.scorpio")
_PROFILE_OFF = (
    "Steps take %.2g times what the latency profile says: is it of another model, machine or set "
    "of flags? Run `scorpio profile`; until then `scorpio` goes by what steps took"
)
T = TypeVar("T")


class ScorpioScheduler(AsyncScheduler):
    """`vllm serve --scheduler-cls scorpio.engine.scheduler.ScorpioScheduler`.

    Raises at construction (the server does not start): SettingsError, UnsupportedConfigError,
    IncompatibleVllmError.
    """

    max_num_scheduled_tokens: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        seams.check_vllm()
        follow_server()
        super().__init__(*args, **kwargs)
        seams.check_scheduler(self)
        seams.check_supported(self.vllm_config)
        settings = load_settings(self.vllm_config.additional_config)
        self._classes, self._default_slo = settings.slo_book()
        self._offer = settings.offer
        self._breaker_limit = settings.breaker_limit
        self._limits = EngineLimits(
            max_num_seqs=self.max_num_active_reqs,
            token_budget=self.max_num_scheduled_tokens,
            kv_tokens=self._kv_tokens(),
            block_tokens=self.block_size,
            max_model_len=self.max_model_len,
            max_adapters=0 if self.lora_config is None else self.lora_config.max_loras,
        )
        self._switch = PolicySwitch(settings, self._limits)
        self._policy = self._switch.policy
        self._telemetry = Telemetry(settings.run_dir, settings.unnamed_class)
        self._timer = StepTimer()
        self._clock = ServingClock(lambda: self.now_s())
        self._tracker = Tracker(self.max_num_running_reqs)
        self._refusals = Refusals()
        self._choices = Choices()
        self._seeds = SeedGuard()
        self._seq = 0
        self._prefix_hits = (
            PrefixHits(self.kv_cache_manager) if self.kv_cache_manager.enable_caching else None
        )
        self.waiting: GatedQueue = GatedQueue(self._view_of, self._policy.queue_key)
        if settings.latency is None and self._policy.name != "fcfs":
            logger.warning("No latency profile: run `scorpio profile`; until then nothing is timed")

    def now_s(self) -> float:
        """The one clock; what requests see of it is `ServingClock`'s. The twin overrides it."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Wall clock, only ever compared with `Request.arrival_time`."""
        return time.time()

    def use_policy(self, policy: Policy) -> None:
        """From the next step on, this policy decides; who waits is re-ordered at once."""
        self._policy = policy
        self._telemetry.restart_windows()
        self.waiting.rekey(policy.queue_key)

    # -- vLLM calls these ----------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        self._seeds.take(request)
        new = request.request_id not in self.requests  # else a streaming-input update
        if new:
            self._called()
            if not self.requests:
                self._timer.woken(self._clock.now_s())
            self._tracker.arrived(self._describe(request))
            self._choices.arrived(request.request_id)
        super().add_request(request)
        if new:
            self._turn_away(request.request_id)

    def set_pause_state(self, pause_state: PauseState) -> None:
        self._called()
        super().set_pause_state(pause_state)
        if pause_state == PauseState.UNPAUSED:
            self._clock.resume()
        else:
            self._clock.pause()
        self._timer.interrupted()

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self._called()
        started = time.perf_counter()
        budget = self.max_num_scheduled_tokens
        plan, snapshot = self._guarded_plan()
        self._telemetry.planned(time.perf_counter() - started)
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.waiting.open_all()
            self.max_num_scheduled_tokens = budget
        self._after_schedule(output, plan, snapshot)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        self._called()
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(
            scheduler_output, model_runner_output
        )
        try:
            self._after_output(scheduler_output)
        except Exception as error:
            self._fall_back(error)
        self._refusals.send(outputs)
        return outputs

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> Any:
        tracked = self._tracker.ended(request.request_id)
        self._look(lambda hits: hits.gone(request.request_id), None)
        self._choices.ended(request.request_id)
        if tracked is not None:
            self._note_end(request, tracked)
        return super()._free_request(request, delay_free_blocks)

    # -- plan ----------------------------------------------------------------------------------

    def _guarded_plan(self) -> tuple[StepPlan, Snapshot | None]:
        try:
            now_s = self._clock.now_s()
            self._follow_switch(self.now_s())
            if self._is_stock() or self._clock.paused:
                return STOCK_STEP, None
            snapshot = self._snapshot()
            where = (self.waiting.table, self.requests, self._tracker.live)
            none: dict[int, str] = {}
            snapshot.computing = self._look(lambda hits: hits.follow(*where, self.running), none)
            plan = self._policy.plan(now_s, snapshot)
            if not plan.stock:
                check_plan(plan, snapshot)
                if plan.reject:  # not for work that the prefix cache has done since
                    planned = plan
                    plan = self._look(lambda hits: hits.spare(planned, *where), planned)
                plan = self._apply(plan, snapshot)
            return plan, snapshot
        except Exception as error:
            self.waiting.open_all()
            self._fall_back(error)
            return STOCK_STEP, None

    def _look(self, ask: Callable[[PrefixHits], T], otherwise: T) -> T:
        """Ask the prefix cache. One odd request must not switch the policy off by the breaker: when
        a look fails there are no more of them, and the policy goes on without."""
        if self._prefix_hits is None:
            return otherwise
        try:
            return ask(self._prefix_hits)
        except Exception as error:
            self._prefix_hits = None
            self._telemetry.fallbacks += 1
            logger.exception("Prefix-cache look-ups failed: off until restart", exc_info=error)
            return otherwise

    def _is_stock(self) -> bool:
        passive = self._policy.passive and not self._switch.record_steps
        return passive or self._telemetry.fallbacks >= self._breaker_limit

    def _kv_tokens(self) -> int:
        """Tokens that the pool holds. One block is vLLM's null block; where layers differ (sliding
        windows), a token takes a block's place in several groups, and vLLM's own count is less."""
        whole = (self.cache_config.num_gpu_blocks - 1) * self.block_size
        return min(whole, self.cache_config.kv_cache_size_tokens or whole)

    def _snapshot(self) -> Snapshot:
        self.waiting.look_again(self.deferred_waiting)
        free_blocks = self.kv_cache_manager.block_pool.get_num_free_blocks()
        if self.running:  # vLLM keeps these from whoever would join
            free_blocks = max(free_blocks - self.kv_cache_manager.watermark_blocks, 0)
        limits = self._limits
        if self.num_waiting_for_streaming_input:  # sessions keep their seats between two inputs
            seats = limits.max_num_seqs - self.num_waiting_for_streaming_input
            limits = replace(limits, max_num_seqs=max(seats, 0))
        return Snapshot(
            running=self._tracker.batch(self.running),
            waiting=self.waiting.table,
            limits=limits,
            kv_free_tokens=free_blocks * limits.kv_tokens // (self.cache_config.num_gpu_blocks - 1),
            executing_since_s=self._timer.executing_since_s(),
        )

    def _apply(self, plan: StepPlan, snapshot: Snapshot) -> StepPlan:
        """Carry out a checked plan through vLLM's seams; the plan that was carried out."""
        queue, live, plan = self.waiting, self._tracker.live, self._choices.of_plan(plan)
        ids = starting(queue, live, plan, snapshot)
        instead = filled(self, queue, ids, plan, snapshot)
        if instead is not None:
            self._telemetry.filled_steps += 1
            plan, ids = instead, starting(queue, live, instead, snapshot)
        plan = with_a_decode(self, plan, snapshot)
        if plan.reject:
            self._refuse(plan.reject)
        apply_plan(self, queue, ids, plan, snapshot)
        return plan

    def _refuse(self, rejections: Sequence[Rejection]) -> None:
        counted = self._telemetry.outcomes.refused
        self._refusals.refuse(self, rejections, self._tracker.live, counted)
        self._choices.refused(rejections)

    def _turn_away(self, request_id: str) -> None:
        """The last choices of a request that has been refused meanwhile."""
        try:
            rejection = self._choices.refusal_of(request_id)
            if rejection is not None:
                self._refuse([rejection])
        except Exception as error:
            self._fall_back(error)

    # -- bookkeeping ---------------------------------------------------------------------------

    def _after_schedule(
        self, output: SchedulerOutput, plan: StepPlan, snapshot: Snapshot | None
    ) -> None:
        try:
            telemetry = self._telemetry
            telemetry.steps += 1
            telemetry.stock_steps += plan.stock
            telemetry.planned_steps += not plan.stock
            self._tracker.scheduled(output, self.requests)
            self._bind_choices(output)
            self._note_forecasts(plan.forecasts)
            batch = None if snapshot is None else snapshot.running
            self._timer.scheduled(output, self._clock.now_s(), batch)
            telemetry.publish(self.now_s(), self._state)
        except Exception as error:
            self._fall_back(error)

    def _bind_choices(self, output: SchedulerOutput) -> None:
        """Where one choice has begun, those that wait are to be answered too."""
        for new in output.scheduled_new_reqs:
            for other in self._choices.begun(new.req_id):
                known = self._tracker.live[other]
                known.view = replace(known.view, slo=replace(known.view.slo, on_miss=OnMiss.WAIT))
                self.waiting.revise(other)

    def _note_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        self._tracker.foretold(forecasts)

    def _called(self) -> None:
        if self._clock.called(self.has_unfinished_requests(), self._timer.longest_s):
            self._timer.interrupted()

    def _after_output(self, scheduler_output: SchedulerOutput) -> None:
        now_s = self._clock.now_s()
        self._tracker.outputs_came(now_s)
        sample = self._timer.finished(scheduler_output, now_s)
        if sample is not None:
            self._policy.observe(sample)
            profile = self._switch.profile
            if profile is not None and self._telemetry.compare_step(sample, profile.step):
                logger.warning(_PROFILE_OFF, self._telemetry.profile_alarm.factor)
            if self._switch.record_steps:
                self._telemetry.record_step(sample)
        if not self.requests:
            self._telemetry.publish(self.now_s(), self._state, force=True)

    def _note_end(self, request: Request, tracked: Tracked) -> None:
        try:
            self._telemetry.outcomes.ended(
                tracked.view,
                _final_state(request),
                tracked.first_token_s,
                self._clock.now_s(),
                request.num_output_tokens,
                tracked.forecast,
            )
        except Exception as error:
            self._fall_back(error)

    def _follow_switch(self, now_s: float) -> None:
        if self._switch.poll(now_s, idle=not self.running):
            self.use_policy(self._switch.policy)
            if not self._switch.record_steps:
                self._telemetry.stop_recording()
            self._telemetry.publish(now_s, self._state, force=True)

    def _state(self) -> dict[str, object]:
        return self._switch.state() | {
            "breaker_open": self._telemetry.fallbacks >= self._breaker_limit,
            "running": len(self.running),
            "waiting": len(self.waiting),
            "waiting_not_startable": self.waiting.num_held,
            "waiting_prompt_tokens": int(self.waiting.table.prompt_tokens.sum()),
            "seeds_dropped": self._seeds.dropped,
        }

    def _fall_back(self, error: Exception) -> None:
        self._telemetry.fallbacks += 1
        if self._telemetry.fallbacks == 1:
            logger.exception("Policy failed; this step is stock FCFS (logged once)", exc_info=error)
        elif self._telemetry.fallbacks == self._breaker_limit:
            logger.error("Policy failed %d times: stock until restart", self._breaker_limit)

    @property
    def policy_switch(self) -> PolicySwitch:
        """Builds policies for this engine."""
        return self._switch

    @property
    def tracked_ids(self) -> set[str]:
        """Requests that we still know of; never others than vLLM does (invariant 6)."""
        return self._tracker.ids

    @property
    def telemetry(self) -> Telemetry:
        """Counters since start (read only)."""
        return self._telemetry

    def _describe(self, request: Request) -> RequestView:
        self._seq += 1
        arrival_s = self._clock.arrival_s(self.wall_s() - request.arrival_time)
        book = (self._classes, self._default_slo)
        view = describe(request, self._seq, arrival_s, *book, self._offer)
        if not self._choices.may_be_refused(request.request_id):
            view = replace(view, slo=replace(view.slo, on_miss=OnMiss.WAIT))
        if self._is_stock():
            return view
        where = self.waiting.table, self._tracker.live
        return self._look(lambda hits: hits.arrived(request, view, *where), view)

    def _view_of(self, request: Request) -> RequestView:
        return self._tracker.live[request.request_id].view


def _final_state(request: Request) -> FinalState:
    if request.status == RequestStatus.FINISHED_ABORTED:
        return FinalState.ABORTED
    if request.status == RequestStatus.FINISHED_ERROR:
        return FinalState.FAILED
    return FinalState.FINISHED
