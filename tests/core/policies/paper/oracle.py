"""`scorpio-paper` in plain loops, from the formulas of docs/policies/scorpio-paper.md.

Slow on purpose: no columns, no screening, no running sums.
"""

from __future__ import annotations

import math

from scorpio.core.latency import LatencyProfile
from scorpio.core.plan import RejectReason
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss
from tests.conformance.snapshots import Row, Scene

KAPPA, SAFETY, MARGIN_S, BEST_EFFORT_S = 1.3, 0.99, 0.05, 1.0
ONE = 1 << 40


class PaperOracle:
    def __init__(self, speed: LatencyProfile) -> None:
        self.speed = speed
        self.credit: dict[int, int] = {}  # by slot

    def plan(self, scene: Scene) -> tuple[list[str], dict[str, RejectReason], set[int]]:
        """(admitted in order, refused, rows that sit out)."""
        skipped = self.sit_out(scene.running)
        started = [v for v, has_started in scene.waiting if has_started]
        queue = sorted(
            (v for v, has_started in scene.waiting if not has_started),
            key=lambda v: (v.deadline_s, v.seq),
        )
        refused: dict[str, RejectReason] = {}
        for view in queue:
            if scene.limits.never_fits(view.prompt_tokens):
                refused[view.request_id] = RejectReason.KV_INFEASIBLE
            elif view.slo.on_miss is OnMiss.REJECT and self.impossible(view):
                refused[view.request_id] = RejectReason.TPOT_INFEASIBLE
        queue = [v for v in queue if v.request_id not in refused]
        queued = sum(r.to_compute - r.computed for r in scene.running if not r.is_decode)
        queued += sum(v.prefill_tokens for v in started)
        behind = []
        for view in list(queue):
            estimate_s = self.speed.prefill.prefill_s(queued + view.prefill_tokens) + MARGIN_S
            late = scene.now_s + estimate_s > view.deadline_s
            if not late or view.slo.on_miss is OnMiss.WAIT:
                queued += view.prefill_tokens
                continue
            queue.remove(view)
            if view.slo.on_miss is OnMiss.REJECT:
                refused[view.request_id] = RejectReason.TTFT_INFEASIBLE
            else:
                behind.append(view)
        return self.join(scene, started, queue + behind), refused, skipped

    def join(self, scene: Scene, started: list[RequestView], queue: list[RequestView]) -> list[str]:
        batch = [(self.target_s(r), max(r.computed, r.to_compute)) for r in scene.running]
        batch += [(self.waiting_target_s(v), v.prompt_tokens) for v in started]
        admitted: list[str] = []
        tokens = 0
        for view in queue:
            if len(batch) >= scene.limits.max_num_seqs or tokens >= 4 * scene.limits.token_budget:
                break
            larger = [*batch, (self.waiting_target_s(view), view.prompt_tokens)]
            if not self.passes(larger, view.expected_output_tokens):
                break
            batch = larger
            admitted.append(view.request_id)
            tokens += view.prefill_tokens
        return admitted

    def passes(self, batch: list[tuple[float, int]], output: float) -> bool:
        tightest = min(slo for slo, _ in batch)
        if tightest == math.inf:
            return True
        vbs = sum(share(tightest, slo) for slo, _ in batch)
        mean = sum(context for _, context in batch) / len(batch)
        return KAPPA * self.speed.decode.tpot_s(vbs, mean, output) <= SAFETY * tightest

    def impossible(self, view: RequestView) -> bool:
        alone = [(view.slo.tpot_s, view.prompt_tokens)]
        return not self.passes(alone, view.expected_output_tokens)

    def waiting_target_s(self, view: RequestView) -> float:
        return math.inf if self.impossible(view) else view.slo.tpot_s

    def target_s(self, row: Row) -> float:
        step_s = self.speed.decode.step_s(1, row.computed)
        return math.inf if KAPPA * step_s > SAFETY * row.view.slo.tpot_s else row.view.slo.tpot_s

    def sit_out(self, rows: tuple[Row, ...]) -> set[int]:
        for row in rows:
            if row.joined:
                self.credit[row.slot] = 0
        decodes = {i: row for i, row in enumerate(rows) if row.is_decode}
        tightest = min((self.target_s(row) for row in decodes.values()), default=math.inf)
        skipped = set()
        for index, row in decodes.items():
            credit = self.credit.get(row.slot, 0) + math.ceil(
                share(tightest, self.target_s(row)) * ONE
            )
            if credit < ONE:
                skipped.add(index)
            self.credit[row.slot] = credit - ONE if credit >= ONE else credit
        return skipped


def share(tightest: float, slo: float) -> float:
    """TRP."""
    if tightest == math.inf:
        return 1.0
    return min(tightest / (BEST_EFFORT_S if slo == math.inf else slo), 1.0)
