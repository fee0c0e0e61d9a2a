"""What does an engine or a replay client send? One request with its time and its promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scorpio.core.slo import XARG_CLASS, XARG_FIELDS, XARG_ON_MISS, Slo, parse_ms
from workloads.errors import WorkloadError
from workloads.mixes import Mix, assign
from workloads.traces.row import BLOCK_TOKENS, TraceRow


@dataclass(frozen=True, slots=True)
class WorkloadRequest:
    """send_s counts from the first request; an SLO of `inf` means none was asked for.

    max_tokens, predicted_tokens: what it asked for at most, and what its server expected, where
    that was recorded.
    """

    index: int
    send_s: float
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...]
    slo_class: str
    ttft_slo_s: float
    tpot_slo_s: float
    tenant: str = ""
    e2e_slo_s: float = math.inf
    value: float = 1.0  # of keeping it, to the operator; never sent
    block_tokens: int = BLOCK_TOKENS  # of the prompt, to each of `hash_ids`
    on_miss: str = ""  # as the trace states it; "" = what the server does by itself
    max_tokens: int | None = None
    predicted_tokens: float | None = None


def with_mix(rows: Sequence[TraceRow], mix: Mix, seed: int) -> list[WorkloadRequest]:
    """Promises from a mix; what the rows themselves asked for is set aside."""
    dealt = zip(rows, assign(mix, len(rows), seed), strict=True)
    return [
        request_of(index, row, entry.slo(), entry.name) for index, (row, entry) in enumerate(dealt)
    ]


def request_of(
    index: int, row: TraceRow, slo: Slo, slo_class: str, on_miss: str = ""
) -> WorkloadRequest:
    """A row with its promise."""
    return WorkloadRequest(
        index,
        row.arrival_s,
        row.prompt_tokens,
        row.output_tokens,
        row.hash_ids,
        slo_class,
        slo.ttft_s,
        slo.tpot_s,
        row.tenant,
        slo.e2e_s,
        slo.value,
        row.block_tokens,
        on_miss,
    )


def with_own_slos(rows: Sequence[TraceRow]) -> list[WorkloadRequest]:
    """Promises as stated in the trace (`vllm_xargs`); a row without any asks for none.

    Raises:
        WorkloadError: no row states a value, or one names a class without values: only its
            server knows what that class promised.
    """
    if not any(name in row.xargs for row in rows for name in (XARG_CLASS, *XARG_FIELDS)):
        raise WorkloadError("mix 'trace': no row of the trace states an SLO; name a mix instead")
    requests = []
    for index, row in enumerate(rows):
        ttft_s, tpot_s, e2e_s = (
            parse_ms(name, row.xargs[name]) if name in row.xargs else math.inf
            for name in XARG_FIELDS
        )
        slo_class = str(row.xargs.get(XARG_CLASS, ""))
        if slo_class and math.isinf(min(ttft_s, tpot_s, e2e_s)):
            raise WorkloadError(
                f"mix 'trace': row {index} names class '{slo_class}' without values in ms; what"
                " classes promise stands in the server's file: --mix FILE.toml"
            )
        on_miss = str(row.xargs.get(XARG_ON_MISS, ""))
        requests.append(request_of(index, row, Slo(ttft_s, tpot_s, e2e_s), slo_class, on_miss))
    return requests


def as_trace(requests: Sequence[WorkloadRequest]) -> list[TraceRow]:
    """Back to rows that carry their promises, for `write_trace` and other people's load tools."""
    return [
        TraceRow(
            r.send_s,
            r.prompt_tokens,
            r.output_tokens,
            r.hash_ids,
            _xargs(r),
            r.tenant,
            r.block_tokens,
        )
        for r in requests
    ]


def _xargs(request: WorkloadRequest) -> dict[str, object]:
    slos_s = (request.ttft_slo_s, request.tpot_slo_s, request.e2e_slo_s)
    xargs: dict[str, object] = {
        name: round(value_s * 1000.0, 6)
        for name, value_s in zip(XARG_FIELDS, slos_s, strict=True)
        if math.isfinite(value_s)
    }
    if request.on_miss:
        xargs[XARG_ON_MISS] = request.on_miss
    return {XARG_CLASS: request.slo_class, **xargs} if request.slo_class else xargs
