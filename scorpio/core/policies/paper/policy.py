"""`scorpio-paper`: SCORPIO as published (arXiv 2505.23022), on vLLM V1's mixed steps.

Question: which waiting requests join, which are refused, which decodes run in this step?
Rule: TTFT guard, then TPOT guard on what it left, then credit-based batching; see
docs/policies/scorpio-paper.md for the formulas, the deviations and what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import LatencyProfile
from scorpio.core.plan import LEAST_RETRY_S, STOCK_STEP, Forecast, Rejection, RejectReason, StepPlan
from scorpio.core.policies.paper.credits import CreditBook
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.policies.paper.tpot_guard import TpotGuard
from scorpio.core.policies.paper.ttft_guard import TtftGuard
from scorpio.core.policies.paper.virtual_batch import BatchClaim, trp
from scorpio.core.request import RequestView
from scorpio.core.snapshot import EngineLimits, RunningBatch, Snapshot, StepSample
from scorpio.core.unservable import sweep_unservable
from scorpio.core.waiting import WaitingTable

# Prompts worth more than this many full steps cannot start in one step, prefix-cache hits left
# out; the rest of the queue is looked at in the next step.
_MAX_STEPS_OF_PROMPTS = 4


class ScorpioPaper:
    """State: one credit per running slot. Everything else is recomputed from the snapshot."""

    name = "scorpio-paper"
    passive = False

    def __init__(
        self, profile: LatencyProfile, limits: EngineLimits, options: PaperOptions
    ) -> None:
        self._options = options
        self._limits = limits
        self._ttft = TtftGuard(profile.prefill, options.ttft_margin_s)
        self._tpot = TpotGuard(
            profile.decode, options.kappa, options.safety, options.best_effort_tpot_s
        )
        self.credits = CreditBook(limits.max_num_seqs)

    def queue_key(self, view: RequestView) -> float:
        """Least deadline first; no TTFT SLO = last, in order of arrival."""
        return view.deadline_s if self._options.ttft_guard else view.arrival_s

    def observe(self, sample: StepSample) -> None:
        """Nothing: the published coefficients are fixed offline."""

    def plan(self, now_s: float, snapshot: Snapshot) -> StepPlan:
        running, waiting = snapshot.running, snapshot.waiting
        target_s = self._targets(running)
        skip_decode = self._sit_out(running, target_s)
        if not len(waiting):
            return StepPlan(admit=(), skip_decode=skip_decode) if skip_decode else STOCK_STEP
        first = int(np.count_nonzero(waiting.started))  # preempted ones sort before all others
        never, reject = self._unservable(waiting)
        missing, late = self._missing(now_s, running, waiting, first, never)
        reject += late
        candidates: Iterable[int] = range(first, len(waiting))
        if never is not None or len(missing):
            takes_part = np.ones(len(waiting), dtype=np.bool_)
            takes_part[:first] = takes_part[missing] = False
            if never is not None:
                takes_part &= ~never
            # on_miss DEGRADE: late ones come behind all that can make it.
            degraded = missing[waiting.degradable[missing]]
            candidates = chain(np.flatnonzero(takes_part).tolist(), degraded.tolist())
        joining = self._join(now_s, running, target_s, waiting, first, candidates)
        admit = [forecast.request_id for forecast in joining]
        return StepPlan(admit=admit, skip_decode=skip_decode, reject=reject, forecasts=joining)

    # -- credit-based batching -----------------------------------------------------------------

    def _targets(self, running: RunningBatch) -> FloatArray:
        """TPOT SLO per running row; inf where it is lost (on_miss WAIT or DEGRADE get so far):
        a promise that cannot be kept must not freeze admission for the others."""
        slo_s = running.tpot_slo_s
        lost = self._tpot.lost(slo_s, running.context_tokens.astype(np.float64))
        return np.where(lost, math.inf, slo_s) if lost.any() else slo_s

    def _sit_out(self, running: RunningBatch, target_s: FloatArray) -> list[int]:
        """Row indices of the decodes that do not join this step."""
        if running.joined.any():
            self.credits.reset(running.slot[running.joined])
        rows = np.flatnonzero(running.is_decode)
        if not len(rows) or not self._options.tpot_guard:
            return []
        joins = self.credits.step(
            running.slot[rows], trp(target_s[rows], self._options.best_effort_tpot_s)
        )
        skipped: list[int] = rows[~joins].tolist()
        return skipped

    # -- guards --------------------------------------------------------------------------------

    def _unservable(self, waiting: WaitingTable) -> tuple[BoolArray | None, list[Rejection]]:
        """Rows that even an idle engine could not serve (None: not one), and their refusals."""
        too_fast, prompts = None, waiting.prompt_tokens
        outputs = waiting.expected_output_tokens
        feasible_s = self._tpot.feasible_s(float(prompts.max()), float(outputs.max()))
        if self._options.tpot_guard and waiting.tpot_slo_s.min() < feasible_s:
            too_fast = self._tpot.infeasible(waiting.tpot_slo_s, prompts, outputs)
        return sweep_unservable(waiting, self._limits, too_fast, lambda view: True)

    def _missing(
        self,
        now_s: float,
        running: RunningBatch,
        waiting: WaitingTable,
        first: int,
        never: BoolArray | None,
    ) -> tuple[IntArray, list[Rejection]]:
        """TTFT guard over the rows from `first` on: the rows that miss, and the refusals."""
        if not self._options.ttft_guard:
            return np.empty(0, dtype=np.int64), []
        prefill_tokens = waiting.prefill_tokens
        may_miss = waiting.rejectable | waiting.degradable
        if never is not None:
            prefill_tokens[never], may_miss[never] = 0.0, False
        ahead = float(running.prefill_left.sum()) + float(prefill_tokens[:first].sum())
        prefill_tokens = prefill_tokens[first:]
        missing = self._ttft.missing(
            now_s, ahead, waiting.deadline_s[first:], prefill_tokens, may_miss[first:]
        )
        rows = missing + first
        refused = waiting.rejectable[rows]
        if not refused.any():
            return rows, []
        # Told as if nothing of its own prompt were cached: that may be another tenant's.
        own = waiting.prompt_tokens[rows]
        estimates_s = self._ttft.estimates_s(ahead, prefill_tokens, missing, own)
        pairs = zip(rows[refused].tolist(), estimates_s[refused].tolist(), strict=True)
        return rows, [self._too_late(waiting[row], estimate_s) for row, estimate_s in pairs]

    def _join(
        self,
        now_s: float,
        running: RunningBatch,
        target_s: FloatArray,
        waiting: WaitingTable,
        first: int,
        candidates: Iterable[int],
    ) -> list[Forecast]:
        """TPOT guard: the candidates that join, in order, up to the first that may not, each with
        the TTFT and the TPOT that the published estimators give it."""
        room = self._limits.max_num_seqs - len(running) - first
        if room <= 0:
            return []
        tokens = float(running.context_tokens.sum() + running.prefill_left.sum())
        claim = BatchClaim.of(target_s, tokens)
        for row in range(first):  # preempted: they come back before all new ones
            claim = claim.plus(self._target_s(waiting[row]), waiting[row].prompt_tokens)
        queued = float(running.prefill_left.sum()) + float(waiting.prefill_tokens[:first].sum())
        enough_tokens = self._limits.token_budget * _MAX_STEPS_OF_PROMPTS
        joining: list[Forecast] = []
        for row in candidates:
            if len(joining) == room or enough_tokens <= 0:
                break
            view = waiting[row]
            claim = claim.plus(self._target_s(view), view.prompt_tokens)
            # Alone it passes (`_unservable`, `_targets`): an empty batch never turns its head away.
            tested = self._options.tpot_guard and claim.members > 1
            if tested and not self._tpot.admits(claim, view.expected_output_tokens):
                break
            queued += view.prefill_tokens
            joining.append(self._forecast(now_s, view, queued, claim))
            enough_tokens -= view.prefill_tokens
        return joining

    def _forecast(
        self, now_s: float, view: RequestView, queued: float, joined: BatchClaim
    ) -> Forecast:
        """Its first token comes when all `queued` tokens, its own included, are computed; it takes
        part in the share TRP of the steps of the batch `joined`."""
        ttft_s = self._ttft.margin_s + self._ttft.model.prefill_s(queued)
        step_s = self._tpot.estimate_s(joined, view.expected_output_tokens)
        share = joined.share(self._target_s(view), self._options.best_effort_tpot_s)
        waited_s = max(now_s - view.arrival_s, 0.0)
        return Forecast(view.request_id, waited_s + ttft_s, step_s / share)

    def _target_s(self, view: RequestView) -> float:
        """TPOT SLO of a waiting request; inf where it is out of reach even alone."""
        feasible_s = self._tpot.feasible_s(view.prompt_tokens, view.expected_output_tokens)
        return view.slo.tpot_s if view.slo.tpot_s >= feasible_s else math.inf

    def _too_late(self, view: RequestView, estimate_s: float) -> Rejection:
        """Refusal of the TTFT guard: come back when the queue has drained by what is missing."""
        slo_s = view.slo.ttft_s
        idle_s = self._ttft.margin_s + self._ttft.model.prefill_s(view.prompt_tokens)
        never = idle_s > slo_s
        return Rejection(
            view.request_id,
            RejectReason.TTFT_INFEASIBLE,
            attainable_ttft_s=estimate_s,
            retry_after_s=None if never else max(estimate_s - slo_s, LEAST_RETRY_S),
            never=never,
        )
