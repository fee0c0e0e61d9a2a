"""What does a vLLM request say about itself? Translation into the immutable core view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from vllm.v1.request import Request, RequestStatus

from scorpio.core.plan import FinalState
from scorpio.core.request import RequestView
from scorpio.core.slo import (
    XARG_QUOTED,
    XARG_SLO,
    XARG_TENANT,
    XARG_WEIGHT,
    OnMiss,
    Slo,
    SloBook,
    SloError,
    parse_length_quantiles,
    parse_on_miss,
    parse_predicted_tokens,
)
from scorpio.core.wire import decode_slo, decode_weight

MAX_TENANT_CHARS = 4096
_TELLS_TOKENS = 64  # at its end two prompts differ, if they do


def describe(
    request: Request,
    seq: int,
    arrival_s: float,
    book: SloBook,
    follows_server: bool = False,
) -> RequestView:
    """Facts of a request on arrival (ServingClock.arrival_s).

    A malformed SLO counts as the default: the HTTP layer has answered 400 to it, so it can only
    come from callers without the middleware. follows_server: what the server says of classes counts
    before `book`: it may have read its SLO file again.
    """
    params = request.sampling_params
    xargs: Mapping[str, object] = (params.extra_args if params is not None else None) or {}
    slo, class_name, predicted = book.default, "", None
    quantiles: tuple[float, ...] = ()
    try:
        slo, class_name = _resolved(xargs, book, follows_server)
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
        quoted=xargs.get(XARG_QUOTED) == "1",
        weight=decode_weight(xargs.get(XARG_WEIGHT)),
    )


def _resolved(xargs: Mapping[str, object], book: SloBook, follows_server: bool) -> tuple[Slo, str]:
    told = decode_slo(xargs.get(XARG_SLO)) if follows_server else None
    if told is None:
        return book.resolve(xargs)
    slo, class_name = told
    return replace(slo, on_miss=parse_on_miss(xargs, slo.on_miss)), class_name


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
        content=hash(tuple((request.prompt_token_ids or ())[-_TELLS_TOKENS:])),
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
