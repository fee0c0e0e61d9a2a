"""Would a stock step harm any request? At light load `scorpio` leaves vLLM to itself.

It harms a request when it makes a first token late, when the batch it leads to cannot keep its
TPOT target, or when it makes a decode so late that the answer may end before it is even again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.step_decodes import StepDecodes
from scorpio.core.request import RequestView
from scorpio.core.slack import likely_late

_CALM = 0.8  # of the engine's time is spoken for: up to here a late decode surely recovers


class StockStep(NamedTuple):
    """Predicted times: of this step, which the token budget bounds, and until all is prefilled."""

    step_s: float
    all_s: float

    @property
    def late_s(self) -> float:
        """Of a prompt that is not read to its end in this step."""
        return self.all_s - self.step_s


def stock_step(
    model: StepModel, decodes: StepDecodes, backlog: float, prefix: float, token_budget: int
) -> StockStep:
    """Beside these decodes, so many prompt tokens; prefix: sum of tokens x those in KV before."""
    whole_s = model.step_s(
        decodes.tokens, decodes.context_tokens, backlog, backlog * backlog, prefix
    )
    prefill_s = whole_s - decodes.alone_s
    steps = max(backlog / token_budget, 1.0)
    return StockStep(
        decodes.alone_s + prefill_s / steps, prefill_s + math.ceil(steps) * decodes.alone_s
    )


def light_step(step: StepContext) -> StockStep | None:
    """The stock step; None when it would harm a request.

    `light_share` of the TPOT target may be used (0 = no stock steps), and so many decodes as
    `light_debt` may be expected to end late for good, in calm times.
    """
    model, snapshot, options = step.model, step.snapshot, step.options
    decodes = step.decodes.all_drafting(model, snapshot)
    running, waiting, limits = snapshot.running, snapshot.waiting, snapshot.limits
    share, start_s, mean_tokens = options.light_share, step.start_s, step.lengths.mean_tokens
    if not share or len(running) + len(waiting) > limits.max_num_seqs:
        return None  # one without a seat is a queue, whose order matters
    if float(limits.kv_need.of(waiting.prompt_tokens).sum()) >= limits.kv_tokens:
        return None  # hits are no work, but they need their blocks
    waited_s = start_s - float(waiting.arrival_s.min(initial=math.inf))
    if limits.max_adapters and waited_s > options.patience_s:
        return None  # vLLM passes one over for as long as its adapter finds no place
    work, cached = waiting.prefill_tokens, waiting.cached_tokens
    backlog = float(running.prefill_left.sum()) + float(work.sum())
    prefix = float((work * cached).sum())
    stock = stock_step(model, decodes, backlog, prefix, limits.token_budget)
    if limits.tail_apart and _longest(step) > limits.chunk_block:
        stock = stock._replace(all_s=stock.all_s + decodes.alone_s)  # its end has its own step
    if (waiting.rejectable & (waiting.deadline_s < start_s + share * stock.all_s)).any():
        return None  # one cannot be served in time, and its client would rather know
    members = len(running) + len(waiting)
    context = float(running.context_tokens.sum()) + backlog + float(cached.sum())
    wanted_s = step.snapshot.between_steps_s(float(waiting.tpot_slo_s.min(initial=math.inf)))
    tightest_s = min(decodes.tightest_s, wanted_s)
    each = 1 if snapshot.drafts is None else 1 + snapshot.drafts.most
    grown_s = model.step_s(members * each, context + 0.5 * mean_tokens * members)
    if grown_s > share * tightest_s:
        return None
    # A decode that this makes late is even again before it ends, in all likelihood.
    recovery_s = share * decodes.slo_s - grown_s
    late = likely_late(decodes.slack_s, recovery_s, stock.all_s / share, mean_tokens)
    calm = grown_s / tightest_s + step.prefill_share <= _CALM
    if late > (options.light_debt if calm else 0.0):
        return None
    if len(waiting) and not Admission.of_all(step).kv.lasts:
        return None
    return stock


def ends_later(step: StepContext, joining: Sequence[RequestView]) -> list[RequestView]:
    """Those that are not read to their end in the stock step: the last, when there are too many
    tokens for one step, and those that reach beyond a boundary at which a chunk ends."""
    limits, last = step.snapshot.limits, list(joining[-1:])
    if not limits.tail_apart:
        return last
    return [view for view in joining if _ends_beyond(view, limits.chunk_block)] or last


def _ends_beyond(view: RequestView, block: int) -> bool:
    return (view.prompt_tokens - 1) // block * block > view.cached_tokens


def _longest(step: StepContext) -> float:
    running, waiting = step.snapshot.running, step.snapshot.waiting
    longest = float(waiting.prefill_tokens.max(initial=0.0))
    return max(longest, float(running.prefill_left.max(initial=0)))
