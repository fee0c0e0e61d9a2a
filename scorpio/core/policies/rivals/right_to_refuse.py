"""What would a rival that never refuses do with the right to? The tests are those of `scorpio`.

TTFT: as long as not all that wait can be on time beside decodes that keep their TPOT, the requests
that cost most engine time are refused (core/on_time.py, core/supply.py). TPOT: one that could not
have its own even alone is refused; one whose own the batch would not keep waits, until its TTFT is
lost too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import StepModel
from scorpio.core.on_time import to_shed
from scorpio.core.plan import LEAST_RETRY_S, Rejection, RejectReason
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.snapshot import Snapshot
from scorpio.core.supply import PrefillSupply
from scorpio.core.unservable import sweep_unservable
from scorpio.core.work import decode_work_s, longest_step_s, prefill_work_s, usually_s


@dataclass(frozen=True, slots=True)
class Refused:
    """without: waiting rows that do not join in this step, the refused ones among them; None: all
    may."""

    reject: list[Rejection]
    without: BoolArray | None


NONE_REFUSED = Refused([], None)


def refuse(model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float) -> Refused:
    """Which of those that wait are refused now? limit_s: how long the coming step may take."""
    waiting, alone_s = snapshot.waiting, model.step_s(1, 0.0)
    context_s = model.context_token_s * waiting.prompt_tokens
    limits, too_fast = snapshot.limits, waiting.tpot_slo_s < alone_s + context_s
    unservable, reject = sweep_unservable(waiting, limits, too_fast, lambda view: False)
    without = np.zeros(len(waiting), dtype=np.bool_) if unservable is None else unservable
    supply = _supply(model, snapshot, step, limit_s)
    late, kept_s = _late(model, snapshot, supply, ~without)
    for row in late.tolist():
        view = waiting[row]
        # Told as if nothing of its prompt were cached: that may be another tenant's.
        whole_s = kept_s + prefill_work_s(model, float(view.prompt_tokens), 0.0)
        done_s = float(supply.done_s(np.array([whole_s]))[0])
        ttft_s = max(done_s - view.arrival_s, 0.0)
        again_s = max(done_s - view.deadline_s, LEAST_RETRY_S)
        reject.append(Rejection(view.request_id, RejectReason.TTFT_INFEASIBLE, ttft_s, again_s))
    without[late] = True
    return Refused(reject, without | _held(model, snapshot, context_s))


def _supply(model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float) -> PrefillSupply:
    """Of prefill: this step, then steps as often as the tightest TPOT SLO asks for them."""
    running, alone_s = snapshot.running, step.decodes.alone_s
    most_s = longest_step_s(model, snapshot.limits, alone_s)
    targets_s = running.tpot_slo_s if len(running) else snapshot.waiting.tpot_slo_s
    possible_s = targets_s[targets_s >= max(alone_s, model.step_s(1, 0.0))]
    later_s = float(possible_s.min(initial=most_s))
    # A first token comes out at the end of a step: half of one later, on average.
    out_s = step.start_s + 0.5 * usually_s(model, later_s)
    return PrefillSupply(out_s, min(max(limit_s, alone_s), most_s), alone_s, later_s)


def _late(
    model: StepModel, snapshot: Snapshot, supply: PrefillSupply, served: BoolArray
) -> tuple[IntArray, float]:
    """Waiting rows to refuse for their TTFT, and the prefill work of all that stay."""
    running, waiting = snapshot.running, snapshot.waiting
    partial, rows = np.flatnonzero(~running.is_decode), np.flatnonzero(served)
    nothing = np.zeros(len(partial))

    def both(theirs: FloatArray | IntArray, column: FloatArray | BoolArray) -> FloatArray:
        """Of unfinished prefills, then of those that wait."""
        return np.concatenate([theirs, column[rows]]).astype(np.float64)

    deadline_s = both(running.deadline_s[partial], waiting.deadline_s)
    order = np.argsort(deadline_s, kind="stable")
    left = both(running.prefill_left[partial], waiting.prefill_tokens)
    work_s = prefill_work_s(
        model, left, both(running.context_tokens[partial], waiting.cached_tokens)
    )[order]
    may_drop = both(nothing, waiting.rejectable)[order] > 0.0

    def cost_s() -> FloatArray:
        prompts, outputs = (
            both(nothing, waiting.prompt_tokens),
            both(nothing, waiting.expected_output_tokens),
        )
        cost: FloatArray = work_s + decode_work_s(model, prompts, outputs)[order]
        return cost

    dropped = to_shed(deadline_s[order], work_s, cost_s, may_drop, supply.done_s)
    late = rows[order[dropped] - len(partial)]
    return late, float(work_s.sum() - work_s[dropped].sum())


def _held(model: StepModel, snapshot: Snapshot, context_s: FloatArray) -> BoolArray:
    """Waiting rows whose own TPOT SLO a step of all decodes, with its own, would not keep."""
    running, waiting = snapshot.running, snapshot.waiting
    if not len(running):
        return np.zeros(len(waiting), dtype=np.bool_)
    grown_s = model.step_s(len(running) + 1, float(running.context_tokens.sum()))
    half_s = 0.5 * model.context_token_s * waiting.expected_output_tokens
    held: BoolArray = (waiting.tpot_slo_s < grown_s + context_s + half_s) & waiting.rejectable
    return held
