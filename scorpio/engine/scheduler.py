"""When does the policy decide? In each step: snapshot -> plan -> apply -> stock schedule().

It decides nothing. Every plan is computed and checked before the first mutation; whatever goes
wrong there makes the step stock FCFS. No exception of ours leaves a method of this class.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, StreamingUpdate

from scorpio.core.plan import STOCK_STEP, Forecast, Rejection, RejectReason, StepPlan
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot, StepSample
from scorpio.engine.apply import apply_plan, keeping_adapters, starting
from scorpio.engine.canary import as_asked
from scorpio.engine.conservation import filled, with_a_decode, with_others_behind
from scorpio.engine.parts import SchedulerWithParts, logger
from scorpio.engine.plan_check import check_plan
from scorpio.engine.view.remote_kv import loading, making_way, passed_over
from scorpio.engine.view.request_facts import final_state, to_be_answered
from scorpio.engine.view.running_table import Tracked

_PROFILE_OFF = (
    "Steps take %.2g times what the latency profile says: is it of another model, machine or set "
    "of flags? Run `scorpio profile`; until then `scorpio` goes by what steps took (logged once; "
    "scorpio_profile_alarm tells)"
)


class ScorpioScheduler(SchedulerWithParts):
    """`vllm serve --scheduler-cls scorpio.engine.scheduler.ScorpioScheduler`."""

    # -- vLLM calls these ----------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        self._harmless(request)
        self._images.came(request)
        new = request.request_id not in self.requests  # else a streaming-input update
        if new:
            self._called()
            if not self.requests:
                self._timer.woken(self._clock.now_s())
                self._work_came()
            self._choices.arrived(request)
            self._tracker.arrived(self._describe(request))
            with self._telemetry.watched():
                self._ledger.arrived(as_asked(self.view_of(request)), request, self)
        super().add_request(request)
        if new and not self._passthrough:
            self._turn_away(request.request_id)

    def _update_request_as_session(self, session: Request, update: StreamingUpdate) -> None:
        """A session that was preempted when its answer ended reads on behind what it has read and
        said; vLLM, which goes by the tokens in its KV, would forget all of it."""
        lost = session.num_computed_tokens == 0 and not self._passthrough
        if lost:
            session.num_computed_tokens = session.num_tokens - 1  # as it was before
        super()._update_request_as_session(session, update)
        if lost:
            session.num_computed_tokens = 0

    def set_pause_state(self, pause_state: PauseState) -> None:
        self._called()
        super().set_pause_state(pause_state)
        if pause_state == PauseState.UNPAUSED:
            self._clock.resume()
        else:
            self._clock.pause()
        self._timer.interrupted()
        self._work_came()
        self._publish(force=True)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self._called()
        started = time.perf_counter()
        budget = self.max_num_scheduled_tokens
        plan, seen = self._guarded_plan()
        self._telemetry.planned(time.perf_counter() - started)
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self.waiting.open_all()
            self.max_num_scheduled_tokens = budget
        self._after_schedule(output, plan, seen)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        self._called()
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(
            scheduler_output, model_runner_output
        )
        try:
            self._drafts.executed(scheduler_output, model_runner_output)
            self._after_output(scheduler_output)
        except Exception as error:
            self._fall_back(error)
        with self._telemetry.watched():
            self._ledger.outputs_came(outputs, self._clock.now_s())
        self._refusals.send(outputs)
        if not self.requests:
            self._publish(force=True)
        return outputs

    def shutdown(self) -> None:
        with self._telemetry.watched():
            self._ledger.close()
        super().shutdown()

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> Any:
        self._images.gone(request.request_id)
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
            self._shadow.begin(self.now_s())
            if self._is_stock() or self._clock.paused:
                return STOCK_STEP, None
            since_s = time.perf_counter()
            seen = self._snapshot()
            where = (self.waiting.table, self.requests, self._tracker.live)
            none: dict[int, str] = {}
            seen.computing = self._look(lambda hits: hits.follow(*where, self.running), none)
            alone = self._policy.passive  # the picture was drawn for the shadow
            self._shadow.look(now_s, seen, since_s if alone else time.perf_counter())
            plan = self._policy.plan(now_s, seen)
            if not plan.stock:
                check_plan(plan, seen)
                if plan.reject:  # not for work that the prefix cache has done since
                    planned = plan
                    plan = self._look(lambda hits: hits.spare(planned, *where), planned)
                plan = self._apply(plan, seen)
            return plan, seen
        except Exception as error:
            self.waiting.open_all()
            alone = self._policy.passive and self._shadow.watching
            (self._shadow.failed if alone else self._fall_back)(error)
            return STOCK_STEP, None

    def _apply(self, plan: StepPlan, seen: Snapshot) -> StepPlan:
        """Carry out a checked plan through vLLM's seams; the plan that was carried out."""
        queue, live = self.waiting, self._tracker.live
        plan = self._choices.of_plan(plan, idle=not self.running)
        plan = keeping_adapters(self, making_way(self, plan, seen), seen)
        ids = starting(queue, live, plan, seen)
        images = self._images
        asked, (plan, ids) = (plan, ids), images.fitted(self, queue, ids, plan, seen, live)
        instead = filled(self, queue, ids, plan, seen)
        if instead is not None:
            self._telemetry.filled_steps += 1
            asked = instead, starting(queue, live, instead, seen)
        moving = with_a_decode(self, asked[0], seen)
        if instead is not None or moving is not asked[0]:
            plan, ids = images.fitted(self, queue, asked[1], moving, seen, live, may_yield=False)
        ids = with_others_behind(self, queue, ids, plan, seen, self._idled)
        apply_plan(self, queue, ids, plan, seen, self._drafts, live)
        if plan.reject:  # last: rows of a plan are places in `running`
            self._refuse(plan.reject)
        return plan

    def _refuse(self, rejections: Sequence[Rejection]) -> None:
        fates = self._choices.fates(rejections)
        requests = [self.requests[rejection.request_id] for rejection in rejections]
        with self._telemetry.watched():
            self._ledger.refusing(rejections, self._policy.name)
        self._refusals.refuse(self, rejections, self._tracker.live, self._count_refusal)
        self._choices.refused(fates)
        for request, rejection in zip(requests, rejections, strict=True):
            self._sessions.refused(request, rejection)

    def _count_refusal(self, view: RequestView, reason: RejectReason) -> None:
        self._telemetry.outcomes.refused(as_asked(view), reason)
        self._canary.refused(view, reason)

    def _turn_away(self, request_id: str) -> None:
        """Requests beyond a cap, and what belongs to a request that was refused meanwhile: its last
        choices, the next part of a session."""
        try:
            rejection = self._choices.refusal_of(request_id)
            rejection = rejection or self._sessions.refusal_of(request_id)
            if rejection is None:
                view, queue = self._tracker.live[request_id].view, self.waiting
                tokens, in_flight = queue.prompt_tokens, self._tracker.in_flight
                rejection = self._caps.refusal(view, len(queue), tokens, in_flight)
            if rejection is not None:
                self._refuse(self._choices.together([rejection]))
        except Exception as error:
            self._fall_back(error)

    # -- bookkeeping ---------------------------------------------------------------------------

    def _after_schedule(
        self, output: SchedulerOutput, plan: StepPlan, seen: Snapshot | None
    ) -> None:
        try:
            telemetry = self._telemetry
            telemetry.steps += 1
            telemetry.stock_steps += plan.stock
            telemetry.planned_steps += not plan.stock
            self._tracker.scheduled(output, self.requests)
            self._shadow.started(new.req_id for new in output.scheduled_new_reqs)
            self._bind_choices(output)
            self.waiting.ask_again(passed_over(self))
            self._idled = not output.total_num_scheduled_tokens
            self._note_forecasts(plan.forecasts)
            batch = None if seen is None else seen.running
            self._timer.scheduled(output, self._clock.now_s(), batch)
        except Exception as error:
            self._fall_back(error)
        with self._telemetry.watched():
            self._ledger.scheduled(output, self._clock.now_s(), self._policy.name)
            self._ledger.forecast(plan.forecasts)
        self._publish(force=self._woken)
        self._woken = False

    def _bind_choices(self, output: SchedulerOutput) -> None:
        """Where one part of a body has begun, it and those that wait are to be answered."""
        ids = [new.req_id for new in output.scheduled_new_reqs]
        ids += [request.request_id for request in loading(self)]
        for request_id in ids:
            for bound in self._choices.begun(self.requests[request_id]):
                known = self._tracker.live[bound]
                known.view = to_be_answered(known.view)
                self.waiting.revise(bound)

    def _note_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        self._tracker.forecast(forecasts)

    def _after_output(self, scheduler_output: SchedulerOutput) -> None:
        now_s = self._clock.now_s()
        self._tracker.outputs_came(now_s)
        sample = self._timer.finished(scheduler_output, now_s)
        if scheduler_output.total_num_scheduled_tokens:
            self._telemetry.came_back()
        if sample is not None:
            with self._telemetry.watched():
                self._watch(sample)
            profile, encodes = self._switch.profile, bool(scheduler_output.scheduled_encoder_inputs)
            step = None if profile is None else profile.step
            learned = self._encoder.learned(sample, encodes, step)
            self._policy.observe(learned)
            self._shadow.observe(learned)
            own_s = max(self.planning_s() - self._shadow.took_s, 0.0)
            self._off.stepped(own_s, sample.duration_s, now_s)

    def _watch(self, sample: StepSample) -> None:
        if self._switch.record_steps:
            self._telemetry.recorder.record(sample)
        profile = self._switch.profile
        if profile is not None and self._telemetry.compare_step(sample, profile.step):
            logger.warning(_PROFILE_OFF, self._telemetry.profile_alarm.factor)

    def _note_end(self, request: Request, tracked: Tracked) -> None:
        view = as_asked(tracked.view)
        with self._telemetry.watched():
            now_s, tokens = self._clock.now_s(), request.num_output_tokens
            first_s, forecast = tracked.first_token_s, tracked.forecast
            how = final_state(request)
            ended = how, first_s, now_s, tokens, forecast
            self._telemetry.outcomes.ended(view, *ended)
            self._canary.ended(tracked.view, *ended)
            if forecast is not None and tokens:
                came_s = (now_s if math.isnan(first_s) else first_s) - view.arrival_s
                told_s, slo_s = forecast.ttft_s, view.slo.ttft_s
                self._off.forecast_came(told_s, came_s, slo_s, self.now_s())
        shadow = self._shadow.gone(request.request_id, view.arrival_s)
        with self._telemetry.watched():
            self._ledger.ended(request, view, self._clock.now_s(), shadow)

    def _follow_switch(self, now_s: float) -> None:
        idle = not self.running
        if self._off.look(now_s, idle):
            self._publish(force=True)
        if self._switch.poll(now_s, idle):
            self.use_policy(self._switch.policy)
            self._shadow.restart()
            self._describe_engine()
            if not self._switch.record_steps:
                self._telemetry.recorder.stop()
            self._publish(force=True)
