"""Which vLLM calls carry out a checked plan? Seam by seam, for one `schedule()`.

Nothing is decided here. Refusals, which end requests, are `ScorpioScheduler._refuse`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from scorpio.core.lora import AdapterPlaces
from scorpio.core.plan import StepPlan
from scorpio.core.snapshot import Snapshot
from scorpio.engine.gated_queue import MOST_SCANNED, GatedQueue
from scorpio.engine.view.drafts import Drafts
from scorpio.engine.view.remote_kv import returning, tokens_left
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.whole_blocks import budget_in_blocks


def apply_plan(
    scheduler: AsyncScheduler,
    queue: GatedQueue,
    starting: Sequence[str] | None,
    plan: StepPlan,
    snapshot: Snapshot,
    drafts: Drafts,
    tracked: Mapping[str, Tracked],
) -> None:
    """Which requests sit out, in which order, how many tokens, which may start (None: vLLM finds
    them in its own order). queue: the scheduler's."""
    for row in (*plan.skip_decode, *plan.defer_prefill):
        # schedule() advances current_step before it compares, so +2 skips this call alone
        # (vllm/v1/core/sched/diffusion_scheduler.py does the same for decodes; vLLM itself
        # passes over unfinished prefills in the same loop when it balances them over ranks).
        # vLLM sets it too, with pipeline parallelism: never sooner than that.
        request = scheduler.running[row]
        request.next_decode_eligible_step = max(
            request.next_decode_eligible_step, scheduler.current_step + 2
        )
        drafts.skipped(request)
    drafts.cut(plan.drafts)
    most = scheduler.max_num_scheduled_tokens
    if plan.token_budget is not None:
        budget = plan.token_budget
        if scheduler.connector is not None:  # their place in the step is none of the plan's
            back = returning(scheduler)
            budget += min(tokens_left(back), max(budget, len(back)))
        if not scheduler.scheduler_config.enable_chunked_prefill:
            # A prompt starts whole or not at all: a plan that starts a part of it starts it.
            whole = _first_prompt_tokens(scheduler, queue, starting)
            budget = max(budget, whole + len(scheduler.running) if whole else 0)
        budget += drafts.beside(plan, starting, tracked)
        scheduler.max_num_scheduled_tokens = min(budget, most)
    if plan.prefill_order or plan.defer_prefill or _prefill_leads(plan, snapshot):
        _order_running(scheduler, plan, snapshot)
    if plan.token_budget is not None and scheduler.need_mamba_block_aligned_split:
        scheduler.max_num_scheduled_tokens = budget_in_blocks(
            scheduler, queue, starting, tracked, most
        )
    if starting is not None:
        queue.open_for(starting)


def keeping_adapters(scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> StepPlan:
    """The plan, or the same with none that sits out, where one may start beside it that holds KV (a
    session with its next input): vLLM starts it by itself, and would give it the place of an
    adapter that sits out. A step later the batch would hold one too many, and end the engine."""
    if not snapshot.limits.max_adapters or not (plan.skip_decode or plan.defer_prefill):
        return plan
    if any(request.lora_request is not None for request in returning(scheduler)):
        return replace(plan, skip_decode=(), defer_prefill=())
    return plan


def starting(
    queue: GatedQueue, tracked: Mapping[str, Tracked], plan: StepPlan, snapshot: Snapshot
) -> list[str] | None:
    """Those that may start or resume, in order; None: vLLM finds them by itself, as nothing it does
    not know is to be minded. An adapter keeps its place in a step it sits out; the place in the
    step of an admitted request whose adapter has none goes to the next in the policy's order.
    """
    sits_out = bool(plan.skip_decode or plan.defer_prefill)
    if plan.admit is None and not (sits_out and snapshot.limits.max_adapters):
        return None
    table = queue.table
    if plan.admit is None:
        ids = queue.startable()
    else:
        resumed = [table[row].request_id for row in range(int(table.started.sum()))]
        ids = [*resumed, *(i for i in plan.admit if i in table)]
    if not snapshot.limits.max_adapters:
        return ids
    places = AdapterPlaces(snapshot)
    joining = [view.request_id for view in places.of(tracked[i].view for i in ids)]
    if plan.admit is None or len(joining) == len(ids):
        return joining
    passed = {*ids, *(rejection.request_id for rejection in plan.reject)}
    rest = (view for view in islice(table, MOST_SCANNED) if view.request_id not in passed)
    return joining + [view.request_id for view in places.of(rest)][: len(ids) - len(joining)]


def _first_prompt_tokens(
    scheduler: AsyncScheduler, queue: GatedQueue, starting: Sequence[str] | None
) -> int:
    """What the one that vLLM comes to first has still to compute: those that hold KV already (a
    session with its next input) start before all others, planned or not. 0: none starts."""
    first = returning(scheduler)[:1]
    if first:
        return tokens_left(first)
    ids = queue.startable() if starting is None else starting
    return queue.get(ids[0]).num_tokens if ids else 0


def _prefill_leads(plan: StepPlan, snapshot: Snapshot) -> bool:
    """Would an unfinished prefill take the tokens of a decode behind it?"""
    is_decode = snapshot.running.is_decode
    return plan.token_budget is not None and bool((~is_decode[:-1] & is_decode[1:]).any())


def _order_running(scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> None:
    """Decodes in front, then unfinished prefills as the plan wants them."""
    running, is_decode = list(scheduler.running), snapshot.running.is_decode
    behind = [row for row in (~is_decode).nonzero()[0].tolist() if row not in plan.prefill_order]
    order = [*is_decode.nonzero()[0].tolist(), *plan.prefill_order, *behind]
    scheduler.running[:] = [running[row] for row in order]
