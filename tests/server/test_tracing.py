"""Does a trace say what a request asked for, and what came of it? With OpenTelemetry's own SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Receive, Send

from scorpio.server.request.slo_headers import first_headers
from scorpio.server.state.tracing import Traces, traces_of_vllm
from tests.server.fake_vllm import NEVER, FakeServer, answer_chat, refused, tokens
from tests.server.keyed import CLASSES, Keyed
from tests.server.posting import PATH

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Traced:
    """A server whose engine makes its span as vLLM's output processor does: out of the headers."""

    def __init__(self, folder: Path) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))

        async def behave(server: FakeServer, raw: bytes, receive: Receive, send: Send) -> None:
            carrier = first_headers(server.scopes[-1]["headers"])
            context = TraceContextTextMapPropagator().extract(carrier)
            provider.get_tracer("vllm").start_span("llm_request", context=context).end()
            await answer_chat(server, raw, receive, send)

        self.keyed = Keyed(folder, CLASSES, behave=behave)
        self.traces = self.keyed.context.traces = Traces(provider)

    async def ask(self, headers: dict[str, str], **body: Any) -> tuple[ReadableSpan, ReadableSpan]:
        """(vLLM's span, ours)"""
        self.exporter.clear()
        body = {"model": "tiny", "messages": [{"role": "user", "content": "secret"}]} | body
        await self.keyed.call("POST", PATH, body, headers)
        theirs, ours = self.exporter.get_finished_spans()
        assert (theirs.name, ours.name) == ("llm_request", "scorpio.request")
        return theirs, ours


async def test_what_was_asked_for_is_on_both_spans(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    asked = {"x-slo-tpot-ms": "40", "x-llm-d-inference-objective": "interactive"}
    theirs, ours = await traced.ask(asked | {"traceparent": PARENT})
    told = {
        "scorpio.policy": "scorpio",
        "scorpio.slo.on_miss": "reject",
        "scorpio.slo.class": "interactive",
        "scorpio.slo.ttft_ms": 500.0,
        "scorpio.slo.tpot_ms": 40.0,
    }
    assert dict(theirs.attributes or {}) == told
    assert dict(ours.attributes or {}) == told | {"scorpio.outcome": "served"}
    assert theirs.parent is not None
    assert theirs.parent.span_id == ours.context.span_id
    assert format(ours.context.trace_id, "032x") == TRACE  # the client's own


async def test_a_refusal_says_why(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.keyed.engine.answers = [refused(NEVER)]
    _, ours = await traced.ask({"x-slo-tpot-ms": "1"})
    told = dict(ours.attributes or {})
    assert told["scorpio.outcome"] == "refused"
    assert told["scorpio.reject_reason"] == "tpot_infeasible"
    assert "scorpio.slo.ttft_ms" not in told  # it has none


async def test_nothing_of_a_client_is_told_or_kept(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.keyed.engine.answers = [tokens(1) for _ in range(5)]
    for _ in range(5):
        for span in await traced.ask({}, user="secret"):
            assert "secret" not in str(dict(span.attributes or {}))
    assert traced.traces._asked == {}


def test_without_a_provider_of_vllm_there_are_no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    assert traces_of_vllm() is None
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert traces_of_vllm() is not None
