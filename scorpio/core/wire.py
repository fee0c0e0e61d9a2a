"""How does a refusal travel from the engine to the HTTP layer? As vLLM's `stop_reason` string. And
what the server has decided about a request, to the engine? As text under keys of its `vllm_xargs`.

vLLM has no REJECTED finish reason and maps ERROR to HTTP 500, so a refused request ends as ABORT
with `stop_reason = "scorpio:<reason>?retry_after_ms=...&attainable_ttft_ms=..."`, or `never=1`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.slo import OnMiss, Slo

PREFIX = "scorpio:"
MOST_WEIGHT = 1e6  # of a tenant; more is a typing error


@dataclass(frozen=True, slots=True)
class RejectionNotice:
    """A refusal as the HTTP layer sees it; None = not known. never: as in `Rejection`."""

    reason: RejectReason
    retry_after_ms: int | None
    attainable_ttft_ms: int | None
    never: bool = False


def encode_rejection(rejection: Rejection) -> str:
    """Rejection -> `stop_reason`."""
    fields = [
        f"{name}={math.ceil(milliseconds)}"
        for name, seconds in (
            ("retry_after_ms", rejection.retry_after_s),
            ("attainable_ttft_ms", rejection.attainable_ttft_s),
        )
        if seconds is not None
        and math.isfinite(milliseconds := seconds * 1000.0)
        and milliseconds >= 0.0
    ]
    if rejection.never:
        fields.append("never=1")
    return PREFIX + rejection.reason.value + ("?" + "&".join(fields) if fields else "")


def decode_rejection(stop_reason: object) -> RejectionNotice | None:
    """`stop_reason` -> notice; None when it is not one of ours."""
    if not isinstance(stop_reason, str) or not stop_reason.startswith(PREFIX):
        return None
    name, _, query = stop_reason[len(PREFIX) :].partition("?")
    try:
        reason = RejectReason(name)
        pairs = dict(part.split("=", 1) for part in query.split("&") if part)
        values = {key: int(value) for key, value in pairs.items()}
    except ValueError:
        return None
    return RejectionNotice(
        reason,
        values.get("retry_after_ms"),
        values.get("attainable_ttft_ms"),
        never=values.get("never") == 1,
    )


def encode_slo(slo: Slo, slo_class: str) -> str:
    """The whole SLO of a request, for an engine that knows other classes than the server."""
    numbers = (slo.ttft_s, slo.tpot_s, slo.e2e_s, slo.value)
    return " ".join([*map(repr, numbers), slo.on_miss.value, slo_class])


def decode_slo(raw: object) -> tuple[Slo, str] | None:
    """(SLO, class name); None when it is not one of ours."""
    if not isinstance(raw, str):
        return None
    words = raw.split(" ", 5)
    try:
        ttft_s, tpot_s, e2e_s, value = map(float, words[:4])
        return Slo(ttft_s, tpot_s, e2e_s, OnMiss(words[4]), value), words[5]
    except (ValueError, IndexError):
        return None


def decode_weight(raw: object) -> float:
    """The weight of a request's tenant; 0 when there is none."""
    try:
        weight = float(raw) if isinstance(raw, str) else 0.0
    except ValueError:
        return 0.0
    return weight if 0.0 < weight <= MOST_WEIGHT else 0.0
