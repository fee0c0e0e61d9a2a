"""How does a workload become arrivals, and a ledger become records? Translation only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from scorpio.core.plan import Forecast
from scorpio.core.slo import (
    XARG_CLASS,
    XARG_FIELDS,
    XARG_ON_MISS,
    XARG_PREDICTED,
    XARG_TENANT,
    OnMiss,
    Slo,
)
from scorpio.core.tenants import tenant_id
from scorpio.twin.clients import ClientSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.predictions import predicted_tokens
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome, RequestRecord

# (outcome, HTTP status) that a live client would have seen
_OUTCOMES = {
    End.FINISHED: (Outcome.FINISHED, 200),
    End.REJECTED: (Outcome.REJECTED, 429),
    End.TURNED_AWAY: (Outcome.REJECTED, 503),
    End.INVALID: (Outcome.FAILED, 400),
    End.LEFT: (Outcome.TIMED_OUT, None),
    End.FAILED: (Outcome.FAILED, 500),
}


def arrivals(requests: Sequence[WorkloadRequest], config: TwinConfig, seed: int) -> list[Arrival]:
    """Requests in order of arrival; predictions are drawn per request from `seed`."""
    hints = predicted_tokens(requests, config.lengths, seed)
    found = [
        Arrival(
            index=r.index,
            arrival_s=r.send_s,
            prompt_tokens=r.prompt_tokens,
            output_tokens=r.output_tokens,
            max_tokens=_max_tokens(r, config),
            slo=Slo(r.ttft_slo_s, r.tpot_slo_s, r.e2e_slo_s, value=r.value),
            slo_class=r.slo_class,
            tenant=r.tenant,
            xargs=_xargs(r, hint, r.index in config.never_refuse),
            prefix_ids=r.hash_ids,
            prefix_block_tokens=r.block_tokens,
            abort_s=r.send_s + config.clients.give_up_s,
            content=r.index + 1,
        )
        for r, hint in zip(requests, hints, strict=True)
    ]
    return sorted(found, key=lambda a: (a.arrival_s, a.index))


def _max_tokens(request: WorkloadRequest, config: TwinConfig) -> int:
    """What the client asks for; vLLM itself offers no more than the context length leaves."""
    if config.exact_max_tokens:
        return request.output_tokens
    room = config.engine.effective_max_model_len - request.prompt_tokens
    most = config.max_tokens if request.max_tokens is None else request.max_tokens
    return max(request.output_tokens, min(most, room))


def slo_classes(requests: Iterable[WorkloadRequest]) -> dict[str, dict[str, float]]:
    """The classes of a workload as `ScorpioSettings.classes` wants them."""
    return {
        r.slo_class: {name.removeprefix("slo_"): ms for name, ms in _slos_ms(r).items()}
        | ({} if r.value == 1.0 else {"value": r.value})
        for r in requests
        if r.slo_class
    }


def records(
    entries: Iterable[Entry], forecasts: Mapping[str, Forecast] | None = None
) -> list[RequestRecord]:
    """One record per request, in order of index; `forecasts` by request id."""
    known = forecasts or {}
    ordered = sorted(entries, key=lambda e: e.arrival.index)
    return [_record(e, known.get(e.arrival.request_id)) for e in ordered]


def index_stride(requests: Sequence[WorkloadRequest]) -> int:
    """Above every index of the load: see `ClientPool`."""
    return max((r.index for r in requests), default=0) + 1


def client_records(
    entries: Iterable[Entry],
    forecasts: Mapping[str, Forecast],
    requests: Sequence[WorkloadRequest],
    clients: ClientSpec,
) -> list[RequestRecord]:
    """One record per request, whatever the number of its tries: it ends as its last try does, and
    its times count from the first. In order of index."""
    tries: dict[int, list[Entry]] = {}
    stride = index_stride(requests)
    for entry in sorted(entries, key=lambda e: e.arrival.index):
        tries.setdefault(entry.arrival.index % stride, []).append(entry)
    made = [_client_record(tries[index], forecasts) for index in sorted(tries)]
    if not clients.clients:
        return made
    trace_s = {request.index: request.send_s for request in requests}
    return [
        replace(record, scheduled_send_s=trace_s[record.index], turn_s=record.send_s)
        for record in made
    ]


def _client_record(tries: Sequence[Entry], forecasts: Mapping[str, Forecast]) -> RequestRecord:
    first, last = tries[0].arrival, tries[-1].arrival
    record = _record(tries[-1], forecasts.get(last.request_id))
    if len(tries) == 1:
        return record
    told_s, waited_s = record.predicted_ttft_s, last.arrival_s - first.arrival_s
    if told_s is not None and record.outcome is not Outcome.REJECTED:
        told_s += waited_s
    return replace(
        record,
        index=first.index,
        send_s=first.arrival_s,
        scheduled_send_s=first.arrival_s,
        predicted_ttft_s=told_s,
        preemptions=sum(entry.preemptions for entry in tries),
        tries=len(tries),
        last_send_s=last.arrival_s,
    )


def _xargs(request: WorkloadRequest, hint: float | None, waits: bool) -> Mapping[str, object]:
    xargs: dict[str, object] = {**_slos_ms(request)}
    if request.slo_class:
        xargs[XARG_CLASS] = request.slo_class
    if request.tenant:
        # A tenant of a trace is one whose key a server has checked, not just a name.
        xargs[XARG_TENANT] = tenant_id(quote(request.tenant, safe=""), "")
    if on_miss := OnMiss.WAIT.value if waits else request.on_miss:
        xargs[XARG_ON_MISS] = on_miss
    told = hint if request.predicted_tokens is None else request.predicted_tokens
    if told is not None:
        xargs[XARG_PREDICTED] = told
    return xargs


def _slos_ms(request: WorkloadRequest) -> dict[str, float]:
    slos_s = (request.ttft_slo_s, request.tpot_slo_s, request.e2e_slo_s)
    return {
        name: slo_s * 1000.0
        for name, slo_s in zip(XARG_FIELDS, slos_s, strict=True)
        if math.isfinite(slo_s)
    }


def _record(entry: Entry, forecast: Forecast | None) -> RequestRecord:
    assert entry.end is not None, "records are made after draining"
    arrival = entry.arrival
    outcome, status = _OUTCOMES[entry.end]
    refused = outcome is Outcome.REJECTED
    turned_away = entry.end is End.TURNED_AWAY
    answered = entry.tokens > 0
    if refused:
        forecast = None  # whatever was thought of it before, it was not let in
    return RequestRecord(
        index=arrival.index,
        slo_class=arrival.slo_class,
        tenant=arrival.tenant,
        send_s=arrival.arrival_s,
        scheduled_send_s=arrival.arrival_s,
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=entry.tokens,
        ttft_slo_s=arrival.slo.ttft_s,
        tpot_slo_s=arrival.slo.tpot_s,
        e2e_slo_s=arrival.slo.e2e_s,
        outcome=outcome,
        reject_reason=("queue_full" if turned_away else entry.reason) if refused else None,
        http_status=status,
        first_token_s=entry.first_s if answered else None,
        last_token_s=entry.last_s if answered else None,
        preemptions=entry.preemptions,
        ended_s=entry.end_s,
        error=entry.reason if outcome is Outcome.FAILED else None,
        predicted_ttft_s=entry.told_ttft_s if forecast is None else forecast.ttft_s,
        predicted_tpot_s=None if forecast is None else forecast.tpot_s,
        value=arrival.slo.value,
        intended_tokens=arrival.output_tokens,
    )
