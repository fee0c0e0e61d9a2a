"""How is a refusal told to an HTTP client? The one table from reasons to HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scorpio.core.plan import MOST_RETRY_S, RejectReason
from scorpio.core.slo import Slo
from scorpio.core.wire import RejectionNotice
from scorpio.server.answers import Answer, error_answer


@dataclass(frozen=True, slots=True)
class ReasonText:
    """slo: the SLO that could not be met; dropped: llm-d's word; text: one sentence."""

    slo: str | None
    dropped: str
    text: str


SATURATED = "rejected-saturated"
REASONS: dict[RejectReason, ReasonText] = {
    RejectReason.TTFT_INFEASIBLE: ReasonText(
        "slo_ttft_ms", "rejected-ttl-expired", "the TTFT SLO cannot be met now"
    ),
    RejectReason.TPOT_INFEASIBLE: ReasonText(
        "slo_tpot_ms", SATURATED, "the TPOT SLO cannot be met now"
    ),
    RejectReason.KV_INFEASIBLE: ReasonText(
        None, SATURATED, "the request does not fit into the KV cache"
    ),
    RejectReason.QUEUE_FULL: ReasonText(None, SATURATED, "too many requests are waiting"),
    RejectReason.OVER_QUOTA: ReasonText(None, SATURATED, "this tenant is over its share"),
}


def refusal_answer(
    notice: RejectionNotice,
    slo: Slo,
    status: int,
    *,
    anthropic: bool = False,
    request_id: str = "",
    words: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """The 429 (or 503) for one refusal. request_id: "" when it never came to the engine. words: the
    client's own for each SLO, as in `Stated`: `param` is the one that could not be met.

    Without `retry_after_ms` no time can be promised, or not even an idle engine could do it: no
    Retry-After, and `x-should-retry: false`, which openai-python obeys.
    """
    entry = REASONS[notice.reason]
    headers = {
        "x-llm-d-request-dropped-reason": entry.dropped,
        "x-scorpio-reject-reason": notice.reason.value,
    }
    if notice.attainable_ttft_ms is not None:
        headers["x-scorpio-attainable-ttft-ms"] = str(notice.attainable_ttft_ms)
    if notice.retry_after_ms is None:
        headers["x-should-retry"] = "false"
    else:
        wait_ms = min(max(notice.retry_after_ms, 1), round(MOST_RETRY_S * 1000))
        headers["retry-after"] = str(math.ceil(wait_ms / 1000))
        headers["retry-after-ms"] = str(wait_ms)
    return error_answer(
        status,
        _message(notice, slo),
        param=None if (missed := _missed(notice.reason, slo)) is None else words.get(missed),
        headers=headers,
        anthropic=anthropic,
        request_id=request_id,
    )


def _missed(reason: RejectReason, slo: Slo) -> str | None:
    """The SLO that asks for the most: a first token is also due by the end of the whole answer."""
    named = REASONS[reason].slo
    return "slo_e2el_ms" if named == "slo_ttft_ms" and slo.e2e_s < slo.ttft_s else named


OVER_RATE = "over_rate"  # a tenant's bucket is empty; no engine says it
_MOST_LIMIT_MS = 86_400_000  # one day


def limit_answer(
    reason: str, said: str, retry_after_ms: float, *, anthropic: bool = False
) -> Answer:
    """429 for a limit of the client's own. It is told as it is, not as for a load that passes."""
    wait_ms = math.ceil(min(max(retry_after_ms, 1.0), _MOST_LIMIT_MS))
    headers = {
        "x-llm-d-request-dropped-reason": SATURATED,
        "x-scorpio-reject-reason": reason,
        "retry-after": str(math.ceil(wait_ms / 1000)),
        "retry-after-ms": str(wait_ms),
    }
    return error_answer(429, said, headers=headers, anthropic=anthropic)


def _message(notice: RejectionNotice, slo: Slo) -> str:
    attainable_ms = notice.attainable_ttft_ms
    if (
        notice.reason is RejectReason.TTFT_INFEASIBLE
        and attainable_ms is not None
        and math.isfinite(slo.ttft_s)
        and attainable_ms > slo.ttft_s * 1000.0  # else it is late already: it has waited
    ):
        return f"predicted TTFT {attainable_ms / 1000:.3g} s > SLO {slo.ttft_s:.3g} s"
    text = REASONS[notice.reason].text
    return f"{text}, not even by an idle engine" if notice.never else text
