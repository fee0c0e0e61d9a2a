"""`scorpio`: ours. Question: how many promises can this step still help to keep?

Rule, in four parts (docs/policy.md): pace every step by the token time-line of the running
decodes; let go of the waiting requests that cost most when not all can be on time; admit in
deadline order while the batch keeps its tightest pace; at light load be stock vLLM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from scorpio.core.batch_growth import GrowingBatch
from scorpio.core.calibration import Calibration
from scorpio.core.chunk import StepFill
from scorpio.core.latency import LatencyProfile, StepModel
from scorpio.core.on_time import let_go
from scorpio.core.plan import STOCK_STEP, Rejection, StepPlan
from scorpio.core.policies.options import Option, parse_options
from scorpio.core.policies.prefill_jobs import Turn, hopeless, prefill_jobs, refusals
from scorpio.core.slack import decode_slack_s, step_start_s
from scorpio.core.supply import PrefillSupply
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
    "prefill_reserve": Option(0.15, 0.0, 0.9),  # of the tightest pace kept free of decodes
    "pace_reserve": Option(0.1, 0.0, 0.9),  # of S, the slack never spent (noise)
    "catch_up": Option(0.85, 0.1, 1.0),  # pace of a late decode, as a share of S
    "max_step_s": Option(0.25, 0.001, 60.0),
    "margin_s": Option(0.015, 0.0, 60.0),
    "patience_s": Option(60.0, 0.1, 86_400.0),  # deadline of requests without a TTFT SLO
}
_HOPE_STEPS = 10.0  # a decode later than it gains in so many steps no longer holds others back
_GROWTH = 1.05  # decodes cost more by the time the queue is served: contexts grow
_SPARE = 0.97  # steps aim a little short of the slack
_LIGHT_QUEUE = 8
_MAX_SCAN = 50
_LENGTH_WEIGHT = 0.02


@dataclass(frozen=True, slots=True)
class _Decodes:
    """The decodes of the coming step; `alone_s` is its length without any prefill."""

    rows: IntArray
    slack_s: FloatArray
    context_tokens: float
    alone_s: float


class Scorpio:
    """State: speed calibration, mean output length, predicted time of the step last planned."""

    name = "scorpio"
    passive = False

    def __init__(
        self, profile: LatencyProfile, limits: EngineLimits, options: Mapping[str, float]
    ) -> None:
        self._o = parse_options(self.name, OPTIONS, options)
        self._calibration = Calibration(profile.step)
        self._limits = limits
        self._planned_s = 0.0
        self._produced = np.zeros(limits.max_num_seqs)
        self._mean_output = 256.0

    def queue_key(self, view: RequestView) -> float:
        """Earliest deadline first; without a TTFT SLO a request is due after `patience_s`."""
        return min(view.deadline_s, view.arrival_s + self._o["patience_s"])

    def observe(self, sample: StepSample) -> None:
        """Follow the engine's speed."""
        self._calibration.observe(sample)

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        model = self._calibration.model()
        start_s = step_start_s(now_s, snapshot.executing_since_s, self._planned_s)
        self._follow_lengths(snapshot)
        decodes = _decodes(model, snapshot, start_s)
        if self._is_light(model, snapshot, decodes):
            return STOCK_STEP
        limit_s = self._step_limit_s(snapshot, decodes)
        never, reject = hopeless(model, self._limits, snapshot.waiting)
        jobs = prefill_jobs(model, snapshot, never, self._o["patience_s"])
        supply = self._supply(snapshot, decodes, start_s, limit_s)
        gone = let_go(jobs.deadline_s, jobs.work_s, jobs.may_drop, supply.done_s)
        reject += refusals(snapshot.waiting, jobs, gone, supply)
        return self._fill(model, snapshot, decodes, limit_s, jobs.turns(gone), reject)

    # -- how long may the step take ------------------------------------------------------------

    def _is_light(self, model: StepModel, snapshot: Snapshot, decodes: _Decodes) -> bool:
        """True when a stock step harms nobody: all work fits, and the batch it leads to too."""
        running, waiting = snapshot.running, snapshot.waiting
        if len(waiting) > _LIGHT_QUEUE:
            return False
        backlog = float(running.prefill_left.sum()) + float(waiting.prompt_tokens.sum())
        if backlog > self._limits.token_budget:
            return False
        step_s = model.step_s(len(decodes.rows), decodes.context_tokens, backlog, backlog * backlog)
        share = self._o["light_share"]
        if step_s > share * float(decodes.slack_s.min(initial=math.inf)):
            return False
        members = len(running) + len(waiting)
        context = float(running.context_tokens.sum()) + backlog
        tightest_s = float(running.tpot_slo_s.min(initial=math.inf))
        tightest_s = min(tightest_s, float(waiting.tpot_slo_s.min(initial=math.inf)))
        grown = context + 0.5 * self._mean_output * members
        self._planned_s = step_s
        return model.step_s(members, grown) <= share * tightest_s

    def _step_limit_s(self, snapshot: Snapshot, decodes: _Decodes) -> float:
        """TPOT guard, per step: no decode that can still make it turns late."""
        slo_s = np.minimum(snapshot.running.tpot_slo_s[decodes.rows], self._o["max_step_s"])
        slack_s = decodes.slack_s - self._o["pace_reserve"] * slo_s
        helpable = slack_s > -_HOPE_STEPS * (slo_s - decodes.alone_s)
        allowed_s = np.maximum(slack_s, self._o["catch_up"] * slo_s)[helpable]
        limit_s = _SPARE * float(allowed_s.min(initial=math.inf))
        return min(max(limit_s, decodes.alone_s), self._o["max_step_s"])

    def _supply(
        self, snapshot: Snapshot, decodes: _Decodes, start_s: float, limit_s: float
    ) -> PrefillSupply:
        pace_s = float(snapshot.running.tpot_slo_s.min(initial=math.inf))
        if not len(snapshot.running):
            pace_s = float(snapshot.waiting.tpot_slo_s.min(initial=math.inf))
        pace_s = min(pace_s, self._o["max_step_s"])
        # A first token comes out at the end of a step: half of one later, on average.
        margin_s = self._o["margin_s"] + 0.5 * min(pace_s, 0.1)
        return PrefillSupply(start_s + margin_s, limit_s, decodes.alone_s, pace_s / _GROWTH)

    # -- who prefills in this step -------------------------------------------------------------

    def _fill(
        self,
        model: StepModel,
        snapshot: Snapshot,
        decodes: _Decodes,
        limit_s: float,
        turns: Iterable[Turn],
        reject: list[Rejection],
    ) -> StepPlan:
        """Jobs in order of deadline, as much of each as fits; one that fits in part is the last.

        vLLM serves running prefills before waiting requests. So a running one that would fit in
        part only yields when a waiting one goes before it, else it would take that one's tokens.
        """
        fill = StepFill(
            model, limit_s, self._limits.token_budget, len(decodes.rows), decodes.context_tokens
        )
        batch = GrowingBatch(model, snapshot, self._mean_output, 1.0 - self._o["prefill_reserve"])
        waiting = snapshot.waiting
        admit: list[str] = []
        order: list[int] = []
        scans, partials = _MAX_SCAN, len(snapshot.running) - len(decodes.rows)
        for row, tokens, prefix in turns:
            if row >= 0 and not scans:
                if partials == len(order):
                    break
                continue
            chunk = fill.fits(tokens, prefix)
            if chunk <= 0 and fill.tokens:
                break
            if row < 0:
                if chunk < tokens and admit:
                    break
                order.append(-1 - row)
            elif waiting.started[row]:
                batch.join(waiting[row])  # the engine lets preempted ones in by itself
            elif batch.takes(waiting[row]):
                batch.join(waiting[row])
                admit.append(waiting[row].request_id)
            else:
                scans -= 1  # nobody behind is held up, but the look ahead is bounded
                continue
            fill.add(max(chunk, 1), prefix)
            if chunk < tokens:
                break
        self._planned_s = fill.time_s
        waits = set(np.flatnonzero(~snapshot.running.is_decode).tolist()) - set(order)
        return StepPlan(
            admit=admit,
            prefill_order=order,
            defer_prefill=sorted(waits),
            reject=reject,
            token_budget=max(fill.tokens, 1),
        )

    def _follow_lengths(self, snapshot: Snapshot) -> None:
        """Mean output length, learned from the slots that change hands."""
        running = snapshot.running
        for slot in running.slot[running.joined].tolist():
            if self._produced[slot] > 0.0:
                self._mean_output += _LENGTH_WEIGHT * (self._produced[slot] - self._mean_output)
        self._produced[running.slot] = running.output_tokens


def _decodes(model: StepModel, snapshot: Snapshot, start_s: float) -> _Decodes:
    running = snapshot.running
    rows = np.flatnonzero(running.is_decode)
    context = float(running.context_tokens[rows].sum())
    slack_s = decode_slack_s(running, rows, start_s)
    return _Decodes(rows, slack_s, context, model.step_s(len(rows), context))
