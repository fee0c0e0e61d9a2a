"""Does each plan keep what its policy promises of plans? Looked at before anything is done with it.

Recomputed from what the policy saw; nothing is raised here, in the middle of a scheduler: what is
broken is told after the step.
"""

from __future__ import annotations

import math

import numpy as np

from scorpio.core.plan import StepPlan
from scorpio.core.policies.paper.policy import ScorpioPaper
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot
from tests.simulation.beliefs import Require
from tests.simulation.swarm import Swarm

_SMALL = 1e-6
_FAR = 3.0  # times its SLO that a step takes: out of reach for any engine
_IN_A_ROW = 8  # plans that start no request


class Plans:
    """Of one run: credits earned and spent by slot, plans in a row that started no request."""

    def __init__(self, swarm: Swarm) -> None:
        slots = swarm.spec.max_num_seqs
        self._earned, self._ran = np.zeros(slots), np.zeros(slots)
        self._credits_of: ScorpioPaper | None = None
        self._step_s = swarm.step.step_s(1, 0.0)
        unsteady = ("misprofiled", "noise", "throttled", "stalls", "pauses", "switch")
        self._exact = swarm.has("profile") and not any(map(swarm.has, unsteady))
        self._plans_without = 0
        self._broken: list[tuple[int, str]] = []

    def look(self, now_s: float, seen: Snapshot, plan: StepPlan, policy: Policy) -> None:
        """At a plan, as it comes from its policy."""
        if isinstance(policy, ScorpioPaper):
            self._check_credits(seen, plan, policy)
            self._check_inequality(seen, plan, policy)
        elif isinstance(policy, Scorpio):
            self._check_targets(now_s, seen, plan, policy)
            if self._exact:
                self._check_head(now_s, seen, plan)
        if self._exact and isinstance(policy, (Scorpio, ScorpioPaper)):
            self._check_out_of_reach(seen, plan)

    def tell(self, require: Require) -> None:
        """What was broken in this step."""
        for number, message in self._broken:
            require(False, number, message)
        self._broken.clear()

    def _require(self, kept: bool, number: int, message: str) -> None:
        if not kept:
            self._broken.append((number, message))

    # -- scorpio-paper -----------------------------------------------------------------------------

    def _check_credits(self, seen: Snapshot, plan: StepPlan, policy: ScorpioPaper) -> None:
        """9, 10, 11: what a decode has earned in the batch (its share of each step) and not spent
        on running is between 0 and 1, from the step in which it joined."""
        batch = seen.running
        if policy is not self._credits_of:  # switched on, or once more
            self._credits_of = policy
            self._earned[:] = self._ran[:] = 0.0
        joined = batch.slot[batch.joined]
        self._earned[joined] = self._ran[joined] = 0.0
        rows = np.flatnonzero(batch.is_decode)
        if not len(rows):
            return
        target_s = policy._targets(batch)[rows]
        tightest_s = float(target_s.min())
        bound_s = np.where(np.isinf(target_s), policy._options.best_effort_tpot_s, target_s)
        share = np.minimum(tightest_s / bound_s, 1.0) if tightest_s < math.inf else 1.0
        ran = ~np.isin(rows, plan.skip_decode)
        slots = batch.slot[rows]
        self._earned[slots] += share
        self._ran[slots] += ran
        credit = self._earned[slots] - self._ran[slots]
        low, high = float(credit.min()), float(credit.max())
        self._require(high < 1.0 + _SMALL, 9, f"a decode waits with {high:.3f} of a step earned")
        self._require(low > -_SMALL, 10, f"a decode runs with {low + 1.0:.3f} of a step earned")

    def _check_inequality(self, seen: Snapshot, plan: StepPlan, policy: ScorpioPaper) -> None:
        """18, as published: estimated at its virtual size, the batch keeps its tightest SLO."""
        guard, waiting = policy._tpot, {view.request_id: view for view in seen.waiting}
        first = [
            v for v, started in zip(seen.waiting, seen.waiting.started, strict=True) if started
        ]
        joining = [waiting[request_id] for request_id in plan.admit or ()]
        batch = seen.running
        tokens = float(batch.context_tokens.sum() + batch.prefill_left.sum())
        target_s = [*policy._targets(batch).tolist(), *(policy._target_s(view) for view in first)]
        tokens += sum(view.prompt_tokens for view in first)
        for view in joining:
            target_s.append(policy._target_s(view))
            tokens += view.prompt_tokens
            tightest_s = min(target_s)
            if len(target_s) == 1 or tightest_s == math.inf:
                continue
            other = policy._options.best_effort_tpot_s
            size = sum(min(tightest_s / (other if s == math.inf else s), 1.0) for s in target_s)
            length = view.expected_output_tokens
            step_s = guard.kappa * guard.model.tpot_s(size, tokens / len(target_s), length)
            kept = step_s <= guard.safety * tightest_s * (1.0 + _SMALL)
            self._require(kept, 18, f"{view.request_id} joins: {step_s:.4f} > {tightest_s:.4f} s")

    # -- scorpio -----------------------------------------------------------------------------------

    def _check_targets(self, now_s: float, seen: Snapshot, plan: StepPlan, policy: Scorpio) -> None:
        """18: one that may be refused joins only where a step of all decodes keeps its target."""
        if plan.stock or not plan.admit:
            return
        model, batch, waiting = policy._speed.model(), seen.running, seen.waiting
        views = {view.request_id: (row, view) for row, view in enumerate(waiting)}
        members, context = len(batch), float(batch.context_tokens.sum())
        for started, view in zip(waiting.started.tolist(), waiting, strict=True):
            if not started:
                break
            members, context = members + 1, context + view.prompt_tokens
        for request_id in plan.admit:
            row, view = views[request_id]
            members, context = members + 1, context + view.prompt_tokens
            promised = bool(waiting.rejectable[row]) and view.deadline_s > now_s
            in_reach = view.slo.tpot_s >= model.step_s(1, view.prompt_tokens)
            if members == 1 or not (promised and in_reach):
                continue
            step_s = model.step_s(members, context)
            kept = step_s <= view.slo.tpot_s * (1.0 + _SMALL)
            self._require(kept, 18, f"{request_id} joins a step of {step_s:.4f} s for its target")

    def _check_head(self, now_s: float, seen: Snapshot, plan: StepPlan) -> None:
        """17: one that finds too little KV does not hold up one behind it that has room."""
        batch, waiting = seen.running, seen.waiting
        started = plan.stock or plan.admit or not batch.is_decode.all() or waiting.started.any()
        targeted = batch.tpot_slo_s.min(initial=math.inf) < math.inf
        seat = len(batch) < seen.limits.max_num_seqs and not seen.limits.max_adapters
        if started or targeted or not seat or not len(waiting):
            self._plans_without = 0
            return
        kept = float(waiting.prompt_tokens.max())  # for one that is overdue
        refused = {rejection.request_id for rejection in plan.reject}
        could = next((view for view in waiting if self._could(view, seen, kept, now_s)
                      and view.request_id not in refused), None)  # fmt: skip
        self._plans_without = 0 if could is None else self._plans_without + 1
        few = self._plans_without <= _IN_A_ROW
        self._require(few, 17, f"no request starts, though {could and could.request_id} has room")

    def _could(self, view: RequestView, seen: Snapshot, kept: float, now_s: float) -> bool:
        room = view.prompt_tokens + kept + 2 * seen.limits.block_tokens <= seen.kv_free_tokens
        left_s = view.deadline_s - now_s  # one without a deadline leaves room for those that have
        timely = 20.0 * self._step_s < left_s < math.inf
        # However long the answers get, half of the pool is enough, so it is not kept out for that.
        grown = sum(v.prompt_tokens + v.max_tokens for v in (view, *seen.running.views))
        lasts = grown + kept <= 0.5 * seen.limits.kv_tokens
        return room and lasts and timely and view.slo.tpot_s == math.inf

    # -- both --------------------------------------------------------------------------------------

    def _check_out_of_reach(self, seen: Snapshot, plan: StepPlan) -> None:
        """16: refused by the first plan that sees it, and for good."""
        waiting = seen.waiting
        if not len(waiting) or not len(seen.running):
            return  # an engine with nothing to do may try one of many
        asks_s = np.minimum(waiting.deadline_s - waiting.arrival_s, waiting.tpot_slo_s)
        rows = np.flatnonzero(waiting.rejectable & (_FAR * asks_s < self._step_s))
        if not len(rows):
            return
        told = {rejection.request_id: rejection for rejection in plan.reject}
        for row in rows.tolist():
            name = waiting[row].request_id
            self._require(name in told, 16, f"{name} asks for what no engine can do, and waits")
            again = name in told and not told[name].never
            self._require(not again, 16, f"{name} asks for that, and may come back")
