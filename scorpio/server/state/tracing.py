"""What does a trace say of a request's SLO? With vLLM's `--otlp-traces-endpoint`: a span of ours
around the request, `scorpio.request`, with what it asked for and what came of it; and what it asked
for on vLLM's own `llm_request` span, which is a child of it.

Goes by OpenTelemetry's public interface alone: a span processor, and the `traceparent` header,
which vLLM passes on to its span (vllm/tracing).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from scorpio.core.slo import Slo
from scorpio.core.wire import RejectionNotice
from scorpio.server.request.slo_headers import first_headers

VLLM_SPAN, OUR_SPAN = "llm_request", "scorpio.request"
_PROPAGATED = (b"traceparent", b"tracestate")
Attributes = dict[str, str | float]


class Answered(Protocol):
    """What of a ticket a span tells."""

    tokens: bool

    @property
    def refusal(self) -> RejectionNotice | None: ...


class Traces(SpanProcessor):
    """Of one API process. provider: that of vLLM."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("scorpio")
        self._asked: dict[int, Attributes] = {}  # by our span; of requests in flight
        provider.add_span_processor(self)

    @contextmanager
    def request(
        self, scope: Scope, slo: Slo, slo_class: str, policy: str, ticket: Answered
    ) -> Iterator[Scope]:
        """One request, with the headers that vLLM shall see."""
        propagator = TraceContextTextMapPropagator()
        asked = attributes(slo, slo_class, policy)
        above = propagator.extract(first_headers(scope["headers"]))
        span = self._tracer.start_span(OUR_SPAN, context=above, attributes=asked)
        carried: dict[str, str] = {}
        propagator.inject(carried, trace.set_span_in_context(span))
        headers = [(k, v) for k, v in scope["headers"] if k.lower() not in _PROPAGATED]
        headers += [(name.encode(), value.encode()) for name, value in carried.items()]
        span_id = span.get_span_context().span_id
        self._asked[span_id] = asked
        try:
            yield {**scope, "headers": headers}
        finally:
            del self._asked[span_id]
            span.set_attributes(outcome(ticket))
            span.end()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """vLLM's own span of a request: it says what was asked for, too."""
        if span.name == VLLM_SPAN and span.parent is not None:
            span.set_attributes(self._asked.get(span.parent.span_id, {}))

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing."""


def attributes(slo: Slo, slo_class: str, policy: str) -> Attributes:
    """What it asks for; SLOs that it has not are left out."""
    stated: Mapping[str, float] = {"ttft": slo.ttft_s, "tpot": slo.tpot_s, "e2el": slo.e2e_s}
    told: Attributes = {"scorpio.policy": policy, "scorpio.slo.on_miss": slo.on_miss.value}
    if slo_class:
        told["scorpio.slo.class"] = slo_class
    for name, seconds in stated.items():
        if math.isfinite(seconds):
            told[f"scorpio.slo.{name}_ms"] = seconds * 1000.0
    return told


def outcome(ticket: Answered) -> Attributes:
    """What came of it, as far as the engine has said."""
    refusal = ticket.refusal
    if refusal is not None:
        return {"scorpio.outcome": "refused", "scorpio.reject_reason": refusal.reason.value}
    return {"scorpio.outcome": "served" if ticket.tokens else "not answered"}


def traces_of_vllm() -> Traces | None:
    """With the provider that vLLM has set; None where there is none to add to."""
    provider = trace.get_tracer_provider()
    return Traces(provider) if isinstance(provider, TracerProvider) else None
