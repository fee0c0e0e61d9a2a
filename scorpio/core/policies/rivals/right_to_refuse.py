"""What would a rival that never refuses do with the right to?

TTFT, one of two tests. `refuse_lost`: a request that would be late even as the next one.
`refuse_dearest`, as in `scorpio`: as long as not all that wait can be on time beside decodes that
keep their TPOT, the requests that cost most engine time (core/on_time.py, core/supply.py). TPOT:
one that could not have its own even alone is refused; one whose own the batch would not keep waits,
until its TTFT is lost too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.latency import StepModel
from scorpio.core.on_time import to_shed
from scorpio.core.plan import LEAST_RETRY_S, Rejection, RejectReason
from scorpio.core.policies.rivals.step_time import StepTime
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot
from scorpio.core.supply import PrefillSupply
from scorpio.core.unservable import sweep_unservable
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import decode_work_s, longest_step_s, prefill_work_s, usually_s


@dataclass(frozen=True, slots=True)
class Refused:
    """without: waiting rows that do not join in this step, the refused ones among them; None: all
    may."""

    reject: list[Rejection]
    without: BoolArray | None


NONE_REFUSED = Refused([], None)


def refuse_lost(model: StepModel, snapshot: Snapshot, step: StepTime, token_s: float) -> Refused:
    """Which of those that wait are refused now? token_s: time per prompt token."""
    waiting, running = snapshot.waiting, snapshot.running
    reject, without = _unservable(model, snapshot)
    done_s = step.ready_s + waiting.prefill_tokens * token_s
    late = (done_s > waiting.deadline_s) & waiting.rejectable & ~without
    begun_late = step.ready_s + running.prefill_left * token_s > running.deadline_s
    begun_late &= running.rejectable
    kept = waiting.prefill_tokens[~(late | without)].sum() + running.prefill_left[~begun_late].sum()

    def behind_s(prompt_tokens: float) -> float:
        return step.ready_s + (float(kept) + prompt_tokens) * token_s

    views = _views(running.views, begun_late.nonzero()[0]) + _views(waiting, late.nonzero()[0])
    reject += _told(views, behind_s)
    return Refused(reject, without | late | _held(model, snapshot))


def refuse_dearest(model: StepModel, snapshot: Snapshot, step: StepTime, limit_s: float) -> Refused:
    """Which of those that wait are refused now? limit_s: how long the coming step may take."""
    reject, without = _unservable(model, snapshot)
    supply = _supply(model, snapshot, step, limit_s)
    late, begun_late, kept_s = _late(model, snapshot, supply, ~without)

    def behind_s(prompt_tokens: float) -> float:
        work_s = kept_s + prefill_work_s(model, prompt_tokens, 0.0)
        return float(supply.done_s(np.array([work_s]))[0])

    views = _views(snapshot.running.views, begun_late) + _views(snapshot.waiting, late)
    reject += _told(views, behind_s)
    without[late] = True
    return Refused(reject, without | _held(model, snapshot))


def _unservable(model: StepModel, snapshot: Snapshot) -> tuple[list[Rejection], BoolArray]:
    """What even an idle engine could not serve: refusals, and rows of those that wait."""
    waiting, alone_s = snapshot.waiting, model.step_s(1, 0.0)
    too_fast = waiting.tpot_slo_s < alone_s + model.context_token_s * waiting.prompt_tokens
    found, reject = sweep_unservable(waiting, snapshot.limits, too_fast, lambda view: False)
    without = np.zeros(len(waiting), dtype=np.bool_) if found is None else found
    return reject, without


def _views(of: Sequence[RequestView] | WaitingTable, rows: IntArray) -> list[RequestView]:
    return [of[row] for row in rows.tolist()]


def _told(views: Iterable[RequestView], behind_s: Callable[[float], float]) -> list[Rejection]:
    """behind_s: when a prompt of so many tokens would be done, behind all that stay."""
    refused = []
    for view in views:
        # Told as if nothing of its prompt were cached: that may be another tenant's.
        done_s = behind_s(float(view.prompt_tokens))
        ttft_s = max(done_s - view.arrival_s, 0.0)
        again_s = max(done_s - view.deadline_s, LEAST_RETRY_S)
        reason = RejectReason.TTFT_INFEASIBLE
        refused.append(Rejection(view.request_id, reason, ttft_s, again_s))
    return refused


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
) -> tuple[IntArray, IntArray, float]:
    """Waiting rows to refuse for their TTFT, rows of the batch, and the prefill work of all that
    stay."""
    running, waiting = snapshot.running, snapshot.waiting
    partial, rows = np.flatnonzero(~running.is_decode), np.flatnonzero(served)
    nothing = np.zeros(len(partial))

    def both(
        theirs: FloatArray | IntArray | BoolArray, column: FloatArray | BoolArray
    ) -> FloatArray:
        """Of unfinished prefills, then of those that wait."""
        return np.concatenate([theirs, column[rows]]).astype(np.float64)

    deadline_s = both(running.deadline_s[partial], waiting.deadline_s)
    order = np.argsort(deadline_s, kind="stable")
    left = both(running.prefill_left[partial], waiting.prefill_tokens)
    work_s = prefill_work_s(
        model, left, both(running.context_tokens[partial], waiting.cached_tokens)
    )[order]
    may_drop = both(running.rejectable[partial], waiting.rejectable)[order] > 0.0

    def cost_s() -> FloatArray:
        prompts, outputs = (
            both(nothing, waiting.prompt_tokens),
            both(nothing, waiting.expected_output_tokens),
        )
        cost: FloatArray = work_s + decode_work_s(model, prompts, outputs)[order]
        return cost

    dropped = to_shed(deadline_s[order], work_s, cost_s, may_drop, supply.done_s)
    gone, kept_s = order[dropped], float(work_s.sum() - work_s[dropped].sum())
    begun = gone < len(partial)
    return rows[gone[~begun] - len(partial)], partial[gone[begun]], kept_s


def _held(model: StepModel, snapshot: Snapshot) -> BoolArray:
    """Waiting rows whose own TPOT SLO a step of all decodes, with its own, would not keep."""
    running, waiting = snapshot.running, snapshot.waiting
    if not len(running):
        return np.zeros(len(waiting), dtype=np.bool_)
    grown_s = model.step_s(len(running) + 1, float(running.context_tokens.sum()))
    tokens = waiting.prompt_tokens + 0.5 * waiting.expected_output_tokens
    held: BoolArray = waiting.tpot_slo_s < grown_s + model.context_token_s * tokens
    held &= waiting.rejectable
    return held
