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

from scorpio.core.request import RequestView
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


def passed_over(scheduler: AsyncScheduler) -> list[str]:
    """Those that vLLM has looked at, and put back for the connector that could not yet say what it
    has of them (:990). Other reasons to put back leave their mark on a request."""
    if scheduler.connector is None:
        return []
    return [
        request.request_id
        for request in scheduler.deferred_waiting
        if request.status in (RequestStatus.WAITING, RequestStatus.PREEMPTED)
        and request.num_computed_tokens == 0
        and request.lora_request is None
        and not request.has_encoder_inputs
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
