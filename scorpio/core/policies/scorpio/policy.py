"""`scorpio`: ours. Question: how many promises can this step still help to keep?

Rule (in full: docs/policies/scorpio.md): bound every step by the token time-line of the running
decodes; shed the waiting requests that cost most when not all can be on time; admit in
deadline order while the batch keeps its tightest TPOT target; at light load be stock vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from itertools import chain

import numpy as np

from scorpio.core.arrays import IntArray
from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.plan import STOCK_STEP, Forecast, Rejection, StepPlan
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.borrow import borrow
from scorpio.core.policies.scorpio.class_shares import ClassShares
from scorpio.core.policies.scorpio.context import StepContext, usual_step_s
from scorpio.core.policies.scorpio.deficit import Deficit
from scorpio.core.policies.scorpio.forecasts import forecasts
from scorpio.core.policies.scorpio.given_up import GivenUp
from scorpio.core.policies.scorpio.idle_engine import IdleEngine, out_of_reach
from scorpio.core.policies.scorpio.jobs import PrefillJobs, Turn, prefill_jobs
from scorpio.core.policies.scorpio.learn.kv_price import KvPrice
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.packing import Packed, pack
from scorpio.core.policies.scorpio.refusals import (
    RefusalRule,
    refusals,
    too_tight,
    unkept,
    unservable,
)
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.seats import seats
from scorpio.core.policies.scorpio.shed import Competition, Outcome, over_share, shed
from scorpio.core.policies.scorpio.step_decodes import step_decodes
from scorpio.core.policies.scorpio.step_length import step_limit_s
from scorpio.core.policies.scorpio.stock_step import StockStep, ends_later, light_step
from scorpio.core.policies.scorpio.tight_targets import TightTargets
from scorpio.core.prefill_share import PrefillShare
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import EngineLimits, Snapshot, StepSample
from scorpio.core.speed.follow import EngineSpeed
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import decode_work_s, prefill_work_s


class Scorpio:
    """State: engine speed, belief in lengths, predicted time of the step last planned."""

    name = "scorpio"
    passive = False

    def __init__(
        self, profile: LatencyProfile, limits: EngineLimits, options: ScorpioOptions
    ) -> None:
        self._options = options
        self._speed = EngineSpeed(profile.step)
        self._prefill_share = PrefillShare()
        self._idle_s = profile.step.step_s(1, 0.0)
        self._planned_s = 0.0
        self._busy_until_s = math.inf  # when the step last planned was to end
        self._idle = IdleEngine(profile.step, limits)
        self._crowd = Crowd()
        self._lengths = LengthBelief(limits.max_num_seqs)
        self._kv_price = KvPrice(limits.kv_tokens, limits.kv_need)
        self._promised_s = -math.inf  # when a request with a deadline was last seen
        self._deficit, self._given_up = Deficit(), GivenUp(limits.max_num_seqs)
        self._targets = TightTargets(options.fixed_share)
        self._tenants = ClassShares(options.tenant_share, self._request_s)

    def queue_key(self, view: RequestView) -> float:
        """Earliest deadline first, but none is overtaken by those of `patience_s` later."""
        return min(view.deadline_s, view.arrival_s + self._options.patience_s)

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed."""
        self._speed.observe(sample)
        model = self._speed.model()
        decodes_s = model.step_s(sample.decode_tokens, sample.decode_context_tokens)
        self._prefill_share.observe(sample, decodes_s, model.sample_s(sample))
        self._idle.served()

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        step = self._context(now_s, snapshot)
        stock = light_step(step)
        if stock is not None:
            return self._light(step, stock)
        never_could = partial(self._idle.unservable, step)
        never, reject = unservable(step, never_could)
        limit_s = step_limit_s(step, self._speed.margin(math.inf))
        supply = step.supply(limit_s, step.later_step_s())
        jobs = prefill_jobs(step, never, self.queue_key).sorted_out(supply)
        over = over_share(self._tenants, snapshot.waiting, jobs) if self._tenants.on else None
        between = Competition(jobs, over, self._crowd, seats(step))
        found = borrow(step, between, shed(step, between, supply))
        if len(found.shed_jobs):
            reject += refusals(step, between, found, RefusalRule(never_could, over))
            self._ask_too(snapshot.waiting, jobs, found.shed_jobs)
        self._crowd.refused(r.request_id for r in reject)
        return self._fill(step, jobs, found, reject)

    def _context(self, now_s: float, snapshot: Snapshot) -> StepContext:
        """What is known; what is learned from the picture is learned here."""
        model, options = self._speed.model(), self._options
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        self._prefill_share.idle(start_s - self._busy_until_s)
        self._lengths.follow(snapshot.running, snapshot.waiting)
        self._crowd.follow(now_s, snapshot.waiting, snapshot.running.views)
        self._tenants.served(now_s, snapshot.running, model.step_s(1, 0.0))
        if snapshot.waiting.deadline_s.min(initial=math.inf) < math.inf:
            self._promised_s = start_s
        promised = start_s - self._promised_s <= options.patience_s
        given_up = self._given_up.follow(snapshot.running)
        decodes = step_decodes(model, snapshot, start_s, given_up)
        self._targets.follow(now_s, snapshot.waiting, model, self._lengths)
        fixed_s = self._fixed_s(model) / snapshot.between_steps_s(1.0)
        least_target_s = snapshot.between_steps_s(self._targets.least_s(now_s, fixed_s))
        share = self._prefill_share.value
        usual_s = usual_step_s(decodes.alone_s, share)
        self._kv_price.follow(start_s, snapshot.waiting, self._lengths, usual_s)
        return StepContext(
            options,
            model,
            snapshot,
            now_s,
            start_s,
            decodes,
            self._lengths,
            share,
            least_target_s,
            promised,
            self._kv_price.price,
            proven=not self._speed.unproven,
        )

    def _fixed_s(self, model: StepModel) -> float:
        """Of a step, by the profile or as it is, whichever is less: no class is turned away
        because the engine has a slow minute, nor because its profile was taken in one."""
        return min(self._idle_s, model.step_s(1, 0.0))

    def _ask_too(self, waiting: WaitingTable, jobs: PrefillJobs, shed_jobs: IntArray) -> None:
        """What the refused asked for counts for their tenants; one that is shed and not refused is
        booked when it joins."""
        gone = shed_jobs[(jobs.rejectable & ~jobs.running)[shed_jobs]]
        self._tenants.asked(waiting[row] for row in jobs.row[gone].tolist())

    def _request_s(self, view: RequestView) -> float:
        """Engine time that one request takes, prefill and decodes."""
        model, tokens = self._speed.model(), float(view.prompt_tokens)
        length = self._lengths.expected_of(view)
        return prefill_work_s(model, tokens, 0.0) + decode_work_s(model, tokens, length)

    # -- two kinds of step ---------------------------------------------------------------------

    def _light(self, step: StepContext, stock: StockStep) -> StepPlan:
        """The stock step, and what those that join by it will see."""
        self._plans(step.start_s, stock.step_s)
        waiting = step.snapshot.waiting
        if not len(waiting):
            return STOCK_STEP
        batch = Admission.of_all(step)
        joining = [waiting[row] for row in (~waiting.started).nonzero()[0].tolist()]
        late_s = dict.fromkeys(
            (view.request_id for view in ends_later(step, joining)), stock.late_s
        )
        told = forecasts(joining, step.start_s + stock.step_s, batch.tpot_s(), late_s)
        return StepPlan(stock=True, forecasts=told)

    def _fill(
        self, step: StepContext, jobs: PrefillJobs, found: Outcome, reject: list[Rejection]
    ) -> StepPlan:
        """The step as long as allowed: its decodes, and prefill of those that stay."""
        waiting, batch, shed_jobs = step.snapshot.waiting, Admission(step), found.shed_jobs
        late = unkept(waiting, jobs, batch)
        if len(late):
            reject += too_tight(waiting, jobs, late)
            shed_jobs = np.concatenate([shed_jobs, late])  # the batch may keep their TPOT later
        overdue = jobs.overdue_first(shed_jobs)
        for row in jobs.waiting_rows(overdue)[:1]:
            batch.keep_for(waiting[row])
        turns: Iterable[Turn] = jobs.turns(
            shed_jobs, self._deficit.pay, batch.out_of_target(waiting)
        )
        tried = self._tried(step, reject)
        if tried is not None:
            reject = [r for r in reject if r.request_id != waiting[tried.row].request_id]
            turns = chain([tried], turns)
        if self._speed.unproven:
            reject = out_of_reach(reject, waiting, step.start_s)
        packed = pack(step, turns, found.supply.first_step_s, batch)
        self._plans(step.start_s, packed.fill.time_s)
        self._given_up.join(packed.unbound)
        prefill_s = packed.fill.time_s - step.decodes.alone_s
        self._deficit.book(prefill_s, packed.behind_s, len(overdue) > 0, step.decodes.most_s)
        return packed.plan(step, reject, self._forecasts(step, packed, found, batch))

    def _tried(self, step: StepContext, reject: list[Rejection]) -> Turn | None:
        """One that an idle engine serves although it would be refused (idle_engine.py)."""
        if not reject or len(step.snapshot.running):
            return None
        refused, waiting = {refusal.request_id for refusal in reject}, step.snapshot.waiting
        row = self._idle.tried(step, self._speed.known, refused)
        if row is None:
            return None
        return Turn(row, waiting[row].prefill_tokens, waiting[row].cached_tokens)

    def _forecasts(
        self, step: StepContext, packed: Packed, found: Outcome, batch: Admission
    ) -> list[Forecast]:
        if not packed.joining:
            return []
        left_s = {i: prefill_work_s(step.model, *left) for i, left in packed.cut.items()}
        if packed.left:  # the last to join: its prompt may need more steps
            last = packed.joining[-1].request_id
            left_s[last] = prefill_work_s(step.model, packed.left, packed.prefix)
        late_s = {i: found.supply.later_s(work_s) for i, work_s in left_s.items()}
        if packed.cut and not packed.full:  # the next step has their ends, and nothing else
            late_s = dict.fromkeys(left_s, step.decodes.alone_s + sum(left_s.values()))
        first_token_s = step.start_s + packed.fill.time_s
        return forecasts(packed.joining, first_token_s, batch.tpot_s(), late_s)

    def _plans(self, start_s: float, step_s: float) -> None:
        self._planned_s, self._busy_until_s = step_s, start_s + step_s
