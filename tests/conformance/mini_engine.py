"""A vLLM V1 step in 150 lines of pure Python: token budget, chunked prefill, slots, preemption.

It has no KV pool and no model; it is fast enough to run a policy through thousands of random
lives per second. The same checks run on vLLM's real scheduler elsewhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass, field

from scorpio.core.latency import LatencyProfile
from scorpio.core.plan import FinalState, StepPlan
from scorpio.core.policy import Policy
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits, Snapshot, StepSample
from scorpio.core.waiting import WaitingTable
from tests.conformance.rules import assert_lawful
from tests.conformance.snapshots import Row, running_batch


@dataclass
class Life:
    """What happened to one request."""

    view: RequestView
    will_produce: int
    produced: int = 0
    ends: list[FinalState] = field(default_factory=list)
    token_times_s: list[float] = field(default_factory=list)


class MiniEngine:
    """`step()` = plan, check, apply, run; returns the plan."""

    def __init__(self, policy: Policy, limits: EngineLimits, speed: LatencyProfile) -> None:
        self.policy, self.limits, self.speed = policy, limits, speed
        self.now_s = 0.0
        self.lives: dict[str, Life] = {}
        self.rows: list[Row] = []
        self.waiting = WaitingTable()
        self.ends: Counter[FinalState] = Counter()
        self._free_slots = list(range(limits.max_num_seqs))

    def arrive(self, view: RequestView, will_produce: int) -> None:
        self.lives[view.request_id] = Life(view, will_produce)
        self.waiting.add(view, self.policy.queue_key(view))

    def abort(self, request_id: str) -> None:
        self._leave_running(request_id)
        self.waiting.remove(request_id)
        self._end(request_id, FinalState.ABORTED)

    def preempt(self, request_id: str) -> None:
        if self._leave_running(request_id):
            view = self.lives[request_id].view
            self.waiting.add(view, self.policy.queue_key(view), started=True)

    def snapshot(self) -> Snapshot:
        return Snapshot(running_batch(self.rows), self.waiting, self.limits, 10**9)

    def step(self) -> StepPlan:
        snapshot = self.snapshot()
        plan = self.policy.plan(self.now_s, snapshot)
        assert_lawful(plan, snapshot)
        self.rows = [dataclasses.replace(row, joined=False) for row in self.rows]
        rows = () if plan.stock else (*plan.skip_decode, *plan.defer_prefill)
        held = {self.rows[row].view.request_id for row in rows}
        for rejection in () if plan.stock else plan.reject:
            if self.waiting.remove(rejection.request_id) is None:
                self._leave_running(rejection.request_id)
            self._end(rejection.request_id, FinalState.REJECTED)
        resumed = [
            v.request_id for v, s in zip(self.waiting, self.waiting.started, strict=True) if s
        ]
        if plan.stock or plan.admit is None:
            arrived = sorted(self.waiting, key=lambda v: v.arrival_s)
            order = resumed + [v.request_id for v in arrived if v.request_id not in resumed]
        else:
            order = resumed + [i for i in plan.admit if i not in resumed]
        budget = self.limits.token_budget
        if not plan.stock and plan.token_budget is not None:
            budget = min(budget, plan.token_budget)
        self._run(held, order, budget)
        return plan

    def _run(self, held: set[str], order: list[str], budget: int) -> None:
        decodes, contexts = 0, 0
        chunks: list[tuple[int, int]] = []  # (prefill tokens, KV prefix)
        ran: list[str] = []
        for index, row in enumerate(self.rows):
            if row.view.request_id in held or budget <= 0:
                continue
            if row.is_decode:
                budget, decodes, contexts = budget - 1, decodes + 1, contexts + row.computed
                self.rows[index] = dataclasses.replace(row, computed=row.computed + 1)
                ran.append(row.view.request_id)
            else:
                budget -= self._prefill(index, budget, chunks, ran)
        while order and budget > 0 and self._free_slots:
            budget -= self._prefill(self._enter(order.pop(0)), budget, chunks, ran)
        tokens = sum(n for n, _ in chunks)
        squares = float(sum(n * n for n, _ in chunks))
        products = float(sum(n * p for n, p in chunks))
        duration_s = self.speed.step.step_s(decodes, contexts, tokens, squares, products)
        self.now_s += max(duration_s, 1e-4)
        self.policy.observe(
            StepSample(tokens, squares, products, decodes, contexts, max(duration_s, 1e-4))
        )
        for request_id in ran:
            self._token(request_id)

    def _enter(self, request_id: str) -> int:
        """Out of the waiting queue, into a slot; returns the row."""
        assert self.waiting.remove(request_id) is not None
        life = self.lives[request_id]
        to_compute = life.view.prompt_tokens + max(life.produced - 1, 0)
        slot = self._free_slots.pop()
        self.rows.append(Row(life.view, slot, True, 0, to_compute, life.produced))
        return len(self.rows) - 1

    def _prefill(
        self, index: int, budget: int, chunks: list[tuple[int, int]], ran: list[str]
    ) -> int:
        row = self.rows[index]
        chunk = min(row.to_compute - row.computed, budget)
        chunks.append((chunk, row.computed))
        self.rows[index] = row = dataclasses.replace(row, computed=row.computed + chunk)
        if row.is_decode and row.output_tokens == 0:
            ran.append(row.view.request_id)
        return chunk

    def _token(self, request_id: str) -> None:
        life = self.lives[request_id]
        life.produced += 1
        life.token_times_s.append(self.now_s)
        if life.produced >= life.will_produce:
            self._leave_running(request_id)
            self._end(request_id, FinalState.FINISHED)
            return
        for index, row in enumerate(self.rows):
            if row.view.request_id == request_id:
                self.rows[index] = dataclasses.replace(row, output_tokens=life.produced)

    def _leave_running(self, request_id: str) -> bool:
        for index, row in enumerate(self.rows):
            if row.view.request_id == request_id:
                self._free_slots.append(self.rows.pop(index).slot)
                return True
        return False

    def _end(self, request_id: str, state: FinalState) -> None:
        life = self.lives[request_id]
        assert not life.ends, f"{request_id} ends twice"
        assert state is not FinalState.REJECTED or life.produced == 0
        life.ends.append(state)
        self.ends[state] += 1


def attained(life: Life) -> bool:
    """Finished, and on time by its own SLO."""
    if life.ends != [FinalState.FINISHED]:
        return False
    times_s, slo = life.token_times_s, life.view.slo
    tpot_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else -math.inf
    return times_s[0] - life.view.arrival_s <= slo.ttft_s and tpot_s <= slo.tpot_s
