"""What does a vLLM request say about itself? Translation into the immutable core view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import FinalState
from scorpio.core.request import RequestView
from scorpio.core.slo import (
    XARG_TENANT,
    OnMiss,
    Slo,
    SloBook,
    SloError,
    parse_length_quantiles,
    parse_predicted_tokens,
)

MAX_TENANT_CHARS = 4096


def describe(
    request: Request,
    seq: int,
    arrival_s: float,
    book: SloBook,
) -> RequestView:
    """Facts of a request on arrival (ServingClock.arrival_s).

    A malformed SLO counts as the default: the HTTP layer has answered 400 to it, so it can only
    come from callers without the middleware.
    """
    params = request.sampling_params
    xargs: Mapping[str, object] = (params.extra_args if params is not None else None) or {}
    slo, class_name, predicted = book.default, "", None
    quantiles: tuple[float, ...] = ()
    try:
        slo, class_name = book.resolve(xargs)
        predicted = parse_predicted_tokens(xargs)
        quantiles = parse_length_quantiles(xargs)
    except SloError:
        pass
    tenant = xargs.get(XARG_TENANT)
    return replace(
        plain(request, seq, arrival_s, slo),
        slo_class=class_name,
        tenant=tenant[:MAX_TENANT_CHARS] if isinstance(tenant, str) else "",
        predicted_output_tokens=math.nan if predicted is None else predicted,
        length_quantiles=quantiles,
    )


def plain(request: Request, seq: int, arrival_s: float, default: Slo) -> RequestView:
    """The facts of a request whose wishes could not be read: it has none."""
    return RequestView(
        request_id=request.request_id,
        seq=seq,
        arrival_s=arrival_s,
        prompt_tokens=request.num_prompt_tokens,
        max_tokens=request.max_tokens,
        slo=default,
        adapter=0 if request.lora_request is None else request.lora_request.lora_int_id,
    )


def to_be_answered(view: RequestView) -> RequestView:
    """The same where nothing may be refused any more: a part of its body has begun. What was to be
    served late in any case keeps its place behind the others."""
    if view.slo.on_miss is not OnMiss.REJECT:
        return view
    return replace(view, slo=replace(view.slo, on_miss=OnMiss.WAIT))


def final_state(request: Request) -> FinalState:
    """How a finished request ended."""
    if request.status == RequestStatus.FINISHED_ABORTED:
        return FinalState.ABORTED
    if request.status == RequestStatus.FINISHED_ERROR:
        return FinalState.FAILED
    return FinalState.FINISHED
