"""`scorpio`: ours. Question: how many promises can this step still help to keep?

Rule (in full: docs/policies/scorpio.md): pace every step by the token time-line of the running
decodes; shed the waiting requests that cost most when not all can be on time; admit in
deadline order while the batch keeps its tightest pace; at light load be stock vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain

import numpy as np

from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.options import Option, parse_options
from scorpio.core.plan import STOCK_STEP, Rejection, StepPlan
from scorpio.core.policies.scorpio.admission import Admission, wasteful
from scorpio.core.policies.scorpio.coming_step import ComingStep
from scorpio.core.policies.scorpio.deficit import Deficit
from scorpio.core.policies.scorpio.fair_share import TenantShares
from scorpio.core.policies.scorpio.forecasts import forecasts
from scorpio.core.policies.scorpio.given_up import GivenUp
from scorpio.core.policies.scorpio.idle_engine import IdleEngine, out_of_reach
from scorpio.core.policies.scorpio.jobs import Turn, decode_work_s, prefill_jobs, prefill_work_s
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.learn.speed import Calibration
from scorpio.core.policies.scorpio.packing import pack
from scorpio.core.policies.scorpio.refusals import (
    RefusalRule,
    crowded,
    hopeless,
    refusals,
    too_tight,
    unkept,
)
from scorpio.core.policies.scorpio.retry_after import Crowd
from scorpio.core.policies.scorpio.shed import Competition, Outcome, over_share, shed
from scorpio.core.policies.scorpio.step_decodes import StepDecodes, asks, step_decodes
from scorpio.core.policies.scorpio.stock_step import LightRule, StockStep
from scorpio.core.policies.scorpio.supply import PrefillSupply
from scorpio.core.prefill_share import PrefillShare
from scorpio.core.request import RequestView
from scorpio.core.slack import step_start_s
from scorpio.core.snapshot import EngineLimits, Snapshot, StepSample
from scorpio.core.step_fill import StepFill

OPTIONS = {
    "light_share": Option(0.8, 0.0, 1.0),  # of slack and pace a stock step may use
    "light_debt": Option(0.3, 0.0, 10.0),  # decodes that one may be expected to make late
    "pace_reserve": Option(0.1, 0.0, 0.9),  # of S, the slack never spent (noise)
    "catch_up": Option(0.85, 0.1, 1.0),  # pace of a late decode, as a share of S
    "max_step_s": Option(0.25, 0.001, 60.0),
    "borrow_queue_s": Option(1.0, 0.0, 60.0),  # prefill left, up to which decodes may be made late
    "tenant_share": Option(0.0, 0.0, 100.0),  # fair shares a tenant may have; 0 = not looked at
    "tenant_room": Option(1.0, 1.0, 100.0),  # times its prefill that one with more must find
    "patience_s": Option(60.0, 0.1, 86_400.0),  # one that stands behind is owed time after that
}


class Scorpio:
    """State: speed calibration, belief in lengths, predicted time of the step last planned."""

    name = "scorpio"
    passive = False

    def __init__(
        self, profile: LatencyProfile, limits: EngineLimits, options: Mapping[str, float]
    ) -> None:
        self._o = parse_options(self.name, OPTIONS, options)
        self._calibration = Calibration(profile.step)
        self._prefill_share = PrefillShare()
        self._limits = limits
        self._idle_s = profile.step.step_s(1, 0.0)
        self._planned_s = 0.0
        self._busy_until_s = math.inf  # when the step last planned was to end
        self._idle = IdleEngine(profile.step, limits)
        self._crowd = Crowd()
        self._lengths = LengthBelief(limits.max_num_seqs)
        self._promised_s = -math.inf  # when a request with a deadline was last seen
        self._owed_time, self._given_up = Deficit(), GivenUp(limits.max_num_seqs)
        self._light_rule = LightRule(
            self._o["light_share"], self._o["light_debt"], self._o["patience_s"]
        )
        self._tenants = TenantShares(self._o["tenant_share"], self._request_s)

    def queue_key(self, view: RequestView) -> float:
        """Earliest deadline first, but none is overtaken by those of `patience_s` later."""
        return min(view.deadline_s, view.arrival_s + self._o["patience_s"])

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed."""
        self._calibration.observe(sample)
        model = self._calibration.model()
        decodes_s = model.step_s(sample.num_decodes, sample.decode_context_tokens)
        self._prefill_share.observe(sample, decodes_s, model.sample_s(sample))
        self._idle.served()

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        model, known = self._calibration.model(), self._calibration.known
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        self._prefill_share.idle(start_s - self._busy_until_s)
        self._lengths.follow(snapshot.running)
        self._crowd.follow(now_s, snapshot.waiting, snapshot.running.views)
        self._tenants.served(now_s, snapshot.running, model.step_s(1, 0.0))
        if snapshot.waiting.deadline_s.min(initial=math.inf) < math.inf:
            self._promised_s = start_s
        given_up = self._given_up.follow(snapshot.running)
        decodes = step_decodes(
            model, snapshot, start_s, self._most_s(model, snapshot, start_s), given_up
        )
        step = ComingStep(model, snapshot, decodes, start_s)
        mean_tokens, share = self._lengths.mean_tokens, self._prefill_share.value
        stock = self._light_rule.stock_step(model, snapshot, decodes, start_s, mean_tokens, share)
        if stock is not None:
            return self._light(step, stock)
        limit_s = self._step_limit_s(decodes)
        never_could = partial(self._idle.unservable, model)
        never, reject = hopeless(model, self._limits, snapshot.waiting, never_could)
        patience_s = self._o["patience_s"]
        jobs = prefill_jobs(model, snapshot, never, self.queue_key, start_s, patience_s)
        jobs = jobs.sorted_out(step.supply(limit_s, step.pace_s()))
        over = None
        if self._o["tenant_share"]:
            over = over_share(self._tenants, snapshot.waiting, jobs)
        between = Competition(jobs, over, self._crowd, self._lengths, share, self._o)
        found = shed(step, limit_s, between)
        supply, gone = found
        reject += self._refuse(now_s, step, between, found, never_could)
        batch = self._batch(step)
        late = unkept(snapshot.waiting, jobs, batch)
        if len(late):
            reject += too_tight(snapshot.waiting, jobs, late)
            gone = np.concatenate([gone, late])  # the batch may keep their pace once others joined
        owed = jobs.owed_first(gone)
        for row in owed[owed >= 0][:1].tolist():
            batch.keep_for(snapshot.waiting[row])
        passed = batch.out_of_pace(snapshot.waiting)
        turns: Iterable[Turn] = jobs.turns(gone, self._owed_time.pay, passed)
        if reject and not len(snapshot.running):
            refused, waiting = {r.request_id for r in reject}, snapshot.waiting
            row = self._idle.tried(model, known, waiting, refused, start_s)
            if row is not None:
                tried = waiting[row]
                reject = [r for r in reject if r.request_id != tried.request_id]
                turns = chain([Turn(row, tried.prefill_tokens, tried.cached_tokens)], turns)
        if self._calibration.unproven:
            reject = out_of_reach(reject, snapshot.waiting, start_s)
        owes = len(owed) > 0
        return self._fill(step, turns, owes, reject, supply, batch)

    def _refuse(
        self,
        now_s: float,
        step: ComingStep,
        between: Competition,
        found: Outcome,
        never_could: Callable[[RequestView], bool],
    ) -> list[Rejection]:
        """Refusals of those shed; what they asked for counts for their tenants all the same."""
        waiting, jobs, gone = step.snapshot.waiting, between.jobs, found.gone
        if not len(gone):
            return []
        fixed_s = self._fixed_s(step.model)
        wastes = partial(wasteful, fixed_s, tightest_s=step.decodes.tightest_s)
        rule = RefusalRule(never_could, wastes, between.over)
        later = crowded(step, jobs, found, self._lengths, self._prefill_share.value)
        refused = refusals(now_s, step.model, waiting, jobs, gone, later, self._crowd, rule)
        # Who is shed and not refused is booked when it joins.
        rows = jobs.row[gone[jobs.rejectable[gone]]].tolist()
        self._tenants.asked(waiting[row] for row in rows)
        return refused

    def _batch(self, step: ComingStep) -> Admission:
        mean_tokens, fixed_s = self._lengths.mean_tokens, self._fixed_s(step.model)
        promised, tightest_s = self._promised(step.start_s), step.decodes.tightest_s
        return Admission(
            step.model, step.snapshot, mean_tokens, tightest_s, step.start_s, fixed_s, promised
        )

    def _promised(self, start_s: float) -> bool:
        """Are requests with a deadline about?"""
        return start_s - self._promised_s <= self._o["patience_s"]

    def _fixed_s(self, model: StepModel) -> float:
        """Of a step, by the profile or as it is, whichever is less: no class is turned away
        because the engine has a slow minute, nor because its profile was taken in one."""
        return min(self._idle_s, model.step_s(1, 0.0))

    def _plans(self, start_s: float, step_s: float) -> None:
        self._planned_s, self._busy_until_s = step_s, start_s + step_s

    # -- how long may the step take ------------------------------------------------------------

    def _light(self, step: ComingStep, stock: StockStep) -> StepPlan:
        """The stock step, and what those that join by it will see."""
        self._plans(step.start_s, stock.step_s)
        waiting = step.snapshot.waiting
        if not len(waiting):
            return STOCK_STEP
        batch = self._batch(step)
        for view in waiting:
            batch.join(view)
        joining = [waiting[row] for row in np.flatnonzero(~waiting.started).tolist()]
        tpot_s = batch.tpot_s(self._prefill_share.value)
        late_s = stock.all_s - stock.step_s
        told = forecasts(joining, step.start_s + stock.step_s, tpot_s, late_s)
        return StepPlan(stock=True, forecasts=told)

    def _most_s(self, model: StepModel, snapshot: Snapshot, start_s: float) -> float:
        """No step is longer; as long as no SLO is stated, none is short for the sake of one."""
        if self._promised(start_s) or asks(snapshot):
            return self._o["max_step_s"]
        limits = self._limits
        full_s = prefill_work_s(model, limits.token_budget, limits.max_model_len)
        decodes_s = model.step_s(limits.max_num_seqs, limits.kv_tokens)
        return max(self._o["max_step_s"], full_s + decodes_s)

    def _step_limit_s(self, decodes: StepDecodes) -> float:
        """TPOT guard, per step: no decode that can still make it turns late."""
        slo_s = decodes.slo_s
        slack_s = decodes.slack_s - self._o["pace_reserve"] * slo_s
        helpable = slo_s > decodes.alone_s
        allowed_s = np.maximum(slack_s, self._o["catch_up"] * slo_s)[helpable]
        limit_s = float(allowed_s.min(initial=math.inf)) / self._calibration.margin(math.inf)
        return min(max(limit_s, decodes.alone_s), decodes.most_s)

    def _request_s(self, view: RequestView) -> float:
        """Engine time that one request takes, prefill and decodes."""
        model, tokens = self._calibration.model(), float(view.prompt_tokens)
        length = float(self._lengths.expected(np.array([view.predicted_output_tokens]))[0])
        return prefill_work_s(model, tokens, 0.0) + decode_work_s(model, tokens, length)

    # -- who prefills in this step -------------------------------------------------------------

    def _fill(
        self,
        step: ComingStep,
        turns: Iterable[Turn],
        owes: bool,
        reject: list[Rejection],
        supply: PrefillSupply,
        batch: Admission,
    ) -> StepPlan:
        """The step as long as allowed: its decodes, and prefill as the turns say."""
        model, snapshot, decodes = step.model, step.snapshot, step.decodes
        fill = StepFill(
            model,
            supply.first_step_s,
            self._limits.token_budget,
            decodes.count,
            decodes.context_tokens,
        )
        partials = len(snapshot.running) - decodes.count
        packed = pack(snapshot, turns, partials, fill, batch)
        self._plans(step.start_s, fill.time_s)
        self._given_up.join(packed.unbound)
        prefill_s = fill.time_s - decodes.alone_s
        self._owed_time.book(prefill_s, packed.behind_s, owes, decodes.most_s)
        told = []
        if packed.joining:
            late_s = 0.0  # of the last to join: its prompt may need more steps
            if packed.left:
                late_s = supply.later_s(prefill_work_s(model, packed.left, packed.prefix))
            tpot_s = batch.tpot_s(self._prefill_share.value)
            told = forecasts(packed.joining, step.start_s + fill.time_s, tpot_s, late_s)
        waits = set((~snapshot.running.is_decode).nonzero()[0].tolist() if partials else ())
        return StepPlan(
            admit=[view.request_id for view in packed.joining],
            prefill_order=packed.order,
            defer_prefill=sorted(waits - set(packed.order)),
            reject=reject,
            token_budget=max(fill.tokens, 1),
            forecasts=told,
        )
