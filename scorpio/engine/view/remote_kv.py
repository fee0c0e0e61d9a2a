"""Whose KV comes from elsewhere? With a KV connector (offloading, prefill on another engine).

vLLM asks the connector when it comes to a waiting request: the rest of its prompt may be loaded in
the same step, or over several. In that time the request holds its blocks, waits in a queue of
vLLM's own in front of all others, and is not the policy's any more. Line references are to
vllm/v1/core/sched/scheduler.py (0.32.0).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import StepPlan
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot
from scorpio.engine.view.startable import cannot_start


def loading(scheduler: AsyncScheduler) -> list[Request]:
    """Those whose KV is on its way, or there and not yet looked at."""
    waits = RequestStatus.WAITING_FOR_REMOTE_KVS
    return [request for request in scheduler.kv_holding_waiting if request.status == waits]


def returning(scheduler: AsyncScheduler) -> list[Request]:
    """Those that hold KV and can start: vLLM does that by itself, before all others (:915)."""
    there = scheduler.finished_recving_kv_req_ids
    return [
        request
        for request in scheduler.kv_holding_waiting
        if (
            request.request_id in there
            if request.status == RequestStatus.WAITING_FOR_REMOTE_KVS
            else not cannot_start(request)
        )
    ]


def tokens_left(requests: Iterable[Request]) -> int:
    """That these have still to compute: one at least."""
    return sum(max(r.num_tokens - r.num_computed_tokens, 1) for r in requests)


def making_way(scheduler: AsyncScheduler, plan: StepPlan, snapshot: Snapshot) -> StepPlan:
    """The plan, or the same where the last prefill that runs sits out: it would take the tokens of
    one that comes back. Not in two steps one after the other: that one may not start yet."""
    if scheduler.connector is None or plan.token_budget is None or not returning(scheduler):
        return plan
    if len(scheduler.running) >= scheduler.max_num_running_reqs:
        return plan
    sits_out = {*plan.skip_decode, *plan.defer_prefill}
    wanted, last = 0, None
    for row, request in enumerate(scheduler.running):
        if row in sits_out or request.next_decode_eligible_step > scheduler.current_step + 1:
            continue
        if snapshot.running.is_decode[row]:
            wanted += 1
            continue
        wanted += request.num_tokens - request.num_computed_tokens
        if request.next_decode_eligible_step <= scheduler.current_step:
            last = row  # it did not sit out in the step before
    if last is None or wanted < plan.token_budget:
        return plan
    order = [row for row in plan.prefill_order if row != last]
    return replace(plan, prefill_order=order, defer_prefill=(*plan.defer_prefill, last))


def passed_over(scheduler: AsyncScheduler) -> list[str]:
    """Those that vLLM has looked at, and put back for the connector that could not yet say what it
    has of them (:990). Other reasons to put back leave their mark on a request."""
    if scheduler.connector is None:
        return []
    config = scheduler.lora_config
    running = {r.lora_request.lora_int_id for r in scheduler.running if r.lora_request}

    def has_place(request: Request) -> bool:
        adapter = request.lora_request
        known = adapter is None or adapter.lora_int_id in running
        return known or len(running) < (config.max_loras if config else 0)

    return [
        request.request_id
        for request in scheduler.deferred_waiting
        if request.status in (RequestStatus.WAITING, RequestStatus.PREEMPTED)
        and request.num_computed_tokens == 0
        and has_place(request)
        and not cannot_start(request)
    ]


def remote_tokens(request: Request) -> int:
    """Of its prompt, what another engine has computed for it (`do_remote_prefill`): all but the
    last token. What an offloading connector has is not known before it is asked, and is not
    assumed."""
    params = request.kv_transfer_params
    if not (isinstance(params, dict) and params.get("do_remote_prefill")):
        return 0
    return max(int(request.num_prompt_tokens) - 1, 0)


def expected(request: Request, view: RequestView) -> RequestView:
    """The view of a request without a prefix cache: what comes from elsewhere is no work here."""
    tokens = remote_tokens(request)
    return view if view.cached_tokens == tokens else replace(view, cached_tokens=tokens)
