"""`scorpio`: ours. Question: how many promises can this step still help to keep?

Rule (docs/policy.md has it in full): pace every step by the token time-line of the running
decodes; let go of the waiting requests that cost most when not all can be on time; admit in
deadline order while the batch keeps its tightest pace; at light load be stock vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from scorpio.core.batch_growth import GrowingBatch, wasteful
from scorpio.core.calibration import Calibration
from scorpio.core.chunk import StepFill
from scorpio.core.given_up import GivenUp
from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.length_belief import LengthBelief
from scorpio.core.on_time import MAX_DROPS_PER_STEP, let_go
from scorpio.core.owed_time import OwedTime
from scorpio.core.plan import STOCK_STEP, Rejection, StepPlan
from scorpio.core.plan_budget import within
from scorpio.core.policies.crowd import Crowd
from scorpio.core.policies.idle_engine import IdleEngine
from scorpio.core.policies.join_times import forecasts
from scorpio.core.policies.light_step import LightRule, StockStep, stock_step
from scorpio.core.policies.options import Option, parse_options
from scorpio.core.policies.packing import pack
from scorpio.core.policies.prefill_jobs import (
    PrefillJobs,
    Turn,
    decode_work_s,
    hopeless,
    prefill_jobs,
    prefill_work_s,
    unkept,
)
from scorpio.core.policies.refusals import RefusalRule, refusals
from scorpio.core.policies.step_decodes import StepDecodes, step_decodes
from scorpio.core.prefill_share import PrefillShare
from scorpio.core.slack import likely_late, step_start_s
from scorpio.core.supply import PrefillSupply
from scorpio.core.tenant_share import TenantShares
from scorpio.core.views import (
    EngineLimits,
    FloatArray,
    IntArray,
    RequestView,
    Snapshot,
    StepSample,
)

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
_BORROW_STEPS = (2.0, math.inf)  # tried lengths of borrowed steps, in paces, up to stock's
_USUAL_STEP = 8.0  # steps of one decode: without a tight pace a step is not longer, on average


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
        self._owed_time, self._given_up = OwedTime(), GivenUp(limits.max_num_seqs)
        self._light_rule = LightRule(self._o["light_share"], self._o["light_debt"])
        self._tenants = TenantShares(self._o["tenant_share"], self._request_s)

    def queue_key(self, view: RequestView) -> float:
        """Earliest deadline first, but nobody is overtaken by those of `patience_s` later."""
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
        self._crowd.follow(now_s, snapshot.waiting)
        self._tenants.served(now_s, snapshot.running, model.step_s(1, 0.0))
        if np.isfinite(snapshot.waiting.deadline_s).any():
            self._promised_s = start_s
        given_up = self._given_up.follow(snapshot.running)
        decodes = step_decodes(model, snapshot, start_s, self._o["max_step_s"], given_up)
        mean_tokens, share = self._lengths.mean_tokens, self._prefill_share.value
        stock = self._light_rule.stock_step(model, snapshot, decodes, start_s, mean_tokens, share)
        if stock is not None:
            return self._light(model, snapshot, decodes, start_s, stock)
        limit_s = self._step_limit_s(decodes)
        never_could = partial(self._idle.never, model)
        never, reject = hopeless(model, self._limits, snapshot.waiting, never_could)
        patience_s = self._o["patience_s"]
        jobs = prefill_jobs(model, snapshot, never, self.queue_key, start_s, patience_s)
        pace_s = self._pace_s(model, snapshot, decodes)
        jobs = jobs.sorted_out(self._supply(start_s, limit_s, decodes.alone_s, pace_s))
        over = self._over_share(snapshot, jobs)
        supply, gone = self._keep(model, snapshot, decodes, start_s, limit_s, jobs, over)
        if len(gone):
            fixed_s = self._fixed_s(model)
            too_tight = partial(wasteful, fixed_s, tightest_s=decodes.tightest_s)
            rule = RefusalRule(never_could, too_tight, over)
            later = self._crowded(model, snapshot, decodes, jobs, gone, supply)
            reject += refusals(now_s, snapshot.waiting, jobs, gone, later, self._crowd, rule)
            rows = jobs.row[gone].tolist()
            self._tenants.asked(snapshot.waiting[row] for row in rows if row >= 0)
        batch, owed = self._batch(model, snapshot, decodes, start_s), jobs.owed_first(gone)
        reject += unkept(snapshot.waiting, jobs, batch)
        for row in owed[owed >= 0][:1].tolist():
            batch.keep_for(snapshot.waiting[row])
        turns: Iterable[Turn] = jobs.turns(gone, self._owed_time.pay)
        if reject and not len(snapshot.running):
            refused, waiting = {r.request_id for r in reject}, snapshot.waiting
            row = self._idle.tried(model, known, waiting, refused, start_s)
            if row is not None:
                tried = waiting[row]
                reject = [r for r in reject if r.request_id != tried.request_id]
                turns = chain([Turn(row, tried.prefill_tokens, tried.cached_tokens)], turns)
        owes = len(owed) > 0
        return self._fill(model, snapshot, decodes, start_s, turns, owes, reject, supply, batch)

    def _batch(
        self, model: StepModel, snapshot: Snapshot, decodes: StepDecodes, start_s: float
    ) -> GrowingBatch:
        mean_tokens, fixed_s = self._lengths.mean_tokens, self._fixed_s(model)
        promised = start_s - self._promised_s <= self._o["patience_s"]
        return GrowingBatch(
            model, snapshot, mean_tokens, decodes.tightest_s, start_s, fixed_s, promised
        )

    def _fixed_s(self, model: StepModel) -> float:
        """Of a step, by the profile or as it is, whichever is less: no class is turned away
        because the engine has a slow minute, nor because its profile was taken in one."""
        return min(self._idle_s, model.step_s(1, 0.0))

    def _plans(self, start_s: float, step_s: float) -> None:
        self._planned_s, self._busy_until_s = step_s, start_s + step_s

    # -- how long may the step take ------------------------------------------------------------

    def _light(
        self,
        model: StepModel,
        snapshot: Snapshot,
        decodes: StepDecodes,
        start_s: float,
        stock: StockStep,
    ) -> StepPlan:
        """The stock step, and what those who join by it will see."""
        self._plans(start_s, stock.step_s)
        waiting = snapshot.waiting
        if not len(waiting):
            return STOCK_STEP
        batch = self._batch(model, snapshot, decodes, start_s)
        for view in waiting:
            batch.join(view)
        joining = [waiting[row] for row in np.flatnonzero(~waiting.started).tolist()]
        tpot_s = batch.tpot_s(self._prefill_share.value)
        late_s = stock.all_s - stock.step_s
        told = forecasts(joining, start_s + stock.step_s, tpot_s, late_s)
        return StepPlan(stock=True, forecasts=told)

    def _step_limit_s(self, decodes: StepDecodes) -> float:
        """TPOT guard, per step: no decode that can still make it turns late."""
        slo_s = decodes.slo_s
        slack_s = decodes.slack_s - self._o["pace_reserve"] * slo_s
        helpable = slo_s > decodes.alone_s
        allowed_s = np.maximum(slack_s, self._o["catch_up"] * slo_s)[helpable]
        limit_s = float(allowed_s.min(initial=math.inf)) / self._calibration.margin(math.inf)
        return min(max(limit_s, decodes.alone_s), decodes.most_s)

    def _keep(
        self,
        model: StepModel,
        snapshot: Snapshot,
        decodes: StepDecodes,
        start_s: float,
        limit_s: float,
        jobs: PrefillJobs,
        over: FloatArray | None,
    ) -> tuple[PrefillSupply, IntArray]:
        """TTFT guard: whom to let go, and the steps that go with it.

        Rather than refuse, borrow from the decodes: TPOT is a mean, so tokens may come late while
        the queue is served if later ones make up for it. Worth it when less value is expected to
        end in debt than is kept, and only while little is left to prefill: in lasting overload
        nobody ever pays back.
        """
        pace_s = self._pace_s(model, snapshot, decodes)
        work_s = jobs.work_s
        if over is not None:
            work_s = np.where(over > 0.0, self._o["tenant_room"], 1.0) * work_s

        drops = within(MAX_DROPS_PER_STEP, decodes.alone_s)

        def cost_s() -> FloatArray:
            cost_s = jobs.cost_s(model, self._lengths)
            back = self._crowd.is_back(snapshot.waiting, jobs.row)
            if back is not None:
                cost_s = np.where(back, self._crowd.weight, 1.0) * cost_s
            return cost_s if over is None else cost_s + over * cost_s.max()

        def outcome(step_s: float, later_s: float) -> tuple[PrefillSupply, IntArray]:
            supply = self._supply(start_s, step_s, decodes.alone_s, later_s)
            return supply, let_go(
                jobs.deadline_s, work_s, cost_s, jobs.may_drop, supply.done_s, drops
            )

        def lost(found: tuple[PrefillSupply, IntArray]) -> float:
            supply, gone = found
            late_s = supply.drift_s(left_s(gone), decodes.slo_s)
            slack_s, mean_tokens, value = decodes.slack_s, self._lengths.mean_tokens, decodes.value
            late = likely_late(slack_s, recovery_s, late_s, mean_tokens, value)
            return float(jobs.value[gone].sum()) + late

        def left_s(gone: IntArray) -> float:
            return float(jobs.work_s.sum() - jobs.work_s[gone].sum())

        best = outcome(limit_s, pace_s)
        if len(best[1]) and left_s(best[1]) < self._o["borrow_queue_s"]:
            # Once the queue is served, steps are as long as the decodes and the usual prefill need.
            usual_s = decodes.alone_s / (1.0 - self._prefill_share.value)
            least_s = (1.0 - self._o["catch_up"]) * decodes.slo_s
            recovery_s = np.maximum(least_s, decodes.slo_s - usual_s)
            tokens = jobs.tokens * ~jobs.behind
            backlog, prefix = float(tokens.sum()), float((tokens * jobs.prefix).sum())
            stock = stock_step(model, decodes, backlog, prefix, self._limits.token_budget)
            most_s = min(stock.step_s, decodes.most_s)
            steps_s = {min(k * pace_s, most_s) for k in _BORROW_STEPS}
            longer = (outcome(max(t, limit_s), t) for t in sorted(steps_s) if t > pace_s)
            best = min(chain([best], longer), key=lost)
        return best

    def _over_share(self, snapshot: Snapshot, jobs: PrefillJobs) -> FloatArray | None:
        """Fair shares that each job's tenant had, where that is too much, else 0; None: nobody."""
        if not self._o["tenant_share"]:
            return None
        waits = jobs.row >= 0
        theirs = self._tenants.over_share(snapshot.waiting.tenant[jobs.row[waits]])
        if theirs is None:
            return None
        over = np.zeros(len(jobs.row))
        over[waits] = theirs
        return over

    def _request_s(self, view: RequestView) -> float:
        """Engine time that one request takes, prefill and decodes."""
        model, tokens = self._calibration.model(), float(view.prompt_tokens)
        length = float(self._lengths.expected(np.array([view.predicted_output_tokens]))[0])
        return prefill_work_s(model, tokens, 0.0) + decode_work_s(model, tokens, length)

    def _pace_s(self, model: StepModel, snapshot: Snapshot, decodes: StepDecodes) -> float:
        """How long steps will be: the tightest TPOT SLO of the batch, or of those to come."""
        pace_s = decodes.tightest_s
        if not len(snapshot.running):
            wanted_s = snapshot.waiting.tpot_slo_s
            pace_s = float(wanted_s[wanted_s >= model.step_s(1, 0.0)].min(initial=math.inf))
        return min(pace_s, decodes.most_s)

    def _supply(
        self, start_s: float, step_s: float, decode_s: float, pace_s: float
    ) -> PrefillSupply:
        # A first token comes out at the end of a step: half of one later, on average.
        out_s = start_s + 0.5 * min(pace_s, _USUAL_STEP * self._calibration.model().step_s(1, 0.0))
        return PrefillSupply(out_s, step_s, decode_s, pace_s)

    def _crowded(
        self,
        model: StepModel,
        snapshot: Snapshot,
        decodes: StepDecodes,
        jobs: PrefillJobs,
        gone: IntArray,
        supply: PrefillSupply,
    ) -> PrefillSupply:
        """What is left for prefill once those who stay decode beside the batch. Answers end, too:
        in the long run prefill has at least what its decodes leave of all that is no fixed cost."""
        stay = np.ones(len(jobs.row), dtype=np.bool_)
        stay[gone] = False
        seats = self._limits.max_num_seqs - decodes.count
        tokens = (jobs.tokens + jobs.prefix)[stay][:seats]
        context = min(decodes.context_tokens + float(tokens.sum()), float(self._limits.kv_tokens))
        grown_s = model.step_s(decodes.count + len(tokens), context)
        work_s, output = jobs.whole_s[gone], self._lengths.expected(jobs.predicted[gone])
        later_s = decode_work_s(model, (jobs.tokens + jobs.prefix)[gone], output)
        lasting = float(work_s.sum()) / max(float((work_s + later_s).sum()), 1e-9)
        lasting *= max(1.0 - model.step_s(1, 0.0) / supply.pace_s, 0.0)
        most_s = (1.0 - max(lasting, self._prefill_share.value)) * supply.pace_s
        decode_s = max(min(grown_s, most_s), decodes.alone_s)
        first_s = supply.first_step_s - decodes.alone_s + decode_s
        return replace(supply, first_step_s=first_s, decode_s=decode_s)

    # -- who prefills in this step -------------------------------------------------------------

    def _fill(
        self,
        model: StepModel,
        snapshot: Snapshot,
        decodes: StepDecodes,
        start_s: float,
        turns: Iterable[Turn],
        owes: bool,
        reject: list[Rejection],
        supply: PrefillSupply,
        batch: GrowingBatch,
    ) -> StepPlan:
        """The step as long as allowed: its decodes, and prefill as the turns say."""
        fill = StepFill(
            model,
            supply.first_step_s,
            self._limits.token_budget,
            decodes.count,
            decodes.context_tokens,
        )
        partials = len(snapshot.running) - decodes.count
        packed = pack(snapshot, turns, partials, fill, batch)
        self._plans(start_s, fill.time_s)
        self._given_up.join(packed.unbound)
        prefill_s = fill.time_s - decodes.alone_s
        self._owed_time.book(prefill_s, packed.behind_s, owes, decodes.most_s)
        told = []
        if packed.joining:
            late_s = 0.0  # of the last to join: its prompt may need more steps
            if packed.left:
                late_s = supply.later_s(prefill_work_s(model, packed.left, packed.prefix))
            tpot_s = batch.tpot_s(self._prefill_share.value)
            told = forecasts(packed.joining, start_s + fill.time_s, tpot_s, late_s)
        waits = set((~snapshot.running.is_decode).nonzero()[0].tolist() if partials else ())
        return StepPlan(
            admit=[view.request_id for view in packed.joining],
            prefill_order=packed.order,
            defer_prefill=sorted(waits - set(packed.order)),
            reject=reject,
            token_budget=max(fill.tokens, 1),
            forecasts=told,
        )
