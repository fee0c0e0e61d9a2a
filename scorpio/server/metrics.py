"""What shall Prometheus see? EngineCore's counters, served with vLLM's own /metrics.

EngineCore has no HTTP; the API process reads its status file when it is scraped and appends the
result to vLLM's text. Registering a collector would not do: with PROMETHEUS_MULTIPROC_DIR vLLM
serves a private registry that holds mmapped values only (vllm/v1/metrics/prometheus.py), and
values of one engine must not be added up over API processes. What the API process counts itself
are plain counters, which work in both modes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorpio.core.plan import FinalState, RejectReason
from scorpio.server.context import ServerContext

METRICS_PATH = "/metrics"
ENGINE = "0"  # data parallelism is refused at start-up, so there is one
LABELS = ("model_name", "engine")

MALFORMED = Counter(
    "scorpio_malformed_requests",
    "Requests answered 400 because an SLO field was malformed.",
    ["model_name", "field"],
)
ANSWERED = Counter(
    "scorpio_refusals_answered",
    "Refusals told to HTTP clients, by status and reason.",
    ["model_name", "status", "reason"],
)


class EngineCollector(Collector):
    """One scrape of the status file."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        status = self._server.status.read() or {}
        base = (self._server.model_name, ENGINE)
        yield self._policy_info(status, base)
        yield _counter(
            "scorpio_requests",
            "Requests that ended, by how.",
            "outcome",
            base,
            [s.value for s in FinalState],
            status.get("finished_by_state"),
        )
        yield _counter(
            "scorpio_admission_rejections",
            "Requests refused before their first token, by reason.",
            "reason",
            base,
            [r.value for r in RejectReason],
            status.get("rejected_by_reason"),
        )
        fallbacks = CounterMetricFamily(
            "scorpio_policy_fallback",
            "Steps that ran stock because the policy failed.",
            labels=LABELS,
        )
        fallbacks.add_metric(base, _number(status.get("fallbacks")))
        yield fallbacks
        for name, text, key in (
            ("scorpio_waiting_requests", "Requests in the waiting queue.", "waiting"),
            ("scorpio_running_requests", "Requests in the running batch.", "running"),
            ("scorpio_breaker_open", "1 when the policy is off until restart.", "breaker_open"),
        ):
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            gauge.add_metric(base, _number(status.get(key)))
            yield gauge
        yield _durations(status.get("schedule_us"), _number(status.get("steps")), base)

    def _policy_info(self, status: Mapping[str, Any], base: tuple[str, str]) -> Metric:
        info = GaugeMetricFamily(
            "scorpio_policy_info", "The policy that is on.", labels=(*LABELS, "policy", "version")
        )
        version = str(status.get("policy_version", ""))
        info.add_metric((*base, self._server.policy, version), 1.0)
        return info


def count_malformed(server: ServerContext, field: str) -> None:
    """One 400. `field` comes from our own tables, so the label set is bounded."""
    MALFORMED.labels(server.model_name, field).inc()


def count_answered(server: ServerContext, status: int, reason: RejectReason) -> None:
    """One refusal told to a client."""
    ANSWERED.labels(server.model_name, str(status), reason.value).inc()


async def serve_metrics(
    app: ASGIApp, server: ServerContext, scope: Scope, receive: Receive, send: Send
) -> None:
    """vLLM's /metrics with ours appended. The request is stripped of its wishes for another
    format or compression, so that both halves are the same plain text."""
    headers = [(k, v) for k, v in scope["headers"] if k not in (b"accept", b"accept-encoding")]
    start: Message = {}
    parts: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        if start["status"] == 200:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(EngineCollector(server))
            parts.append(generate_latest(registry))
        body = b"".join(parts)
        raw = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({**start, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    await app({**scope, "headers": headers}, receive, collect)


def _counter(
    name: str, text: str, label: str, base: tuple[str, str], values: Iterable[str], counts: object
) -> Metric:
    """Every value of the label is always present, so that rates exist from the first scrape."""
    known: Mapping[str, Any] = counts if isinstance(counts, Mapping) else {}
    family = CounterMetricFamily(name, text, labels=(*LABELS, label))
    for value in values:
        family.add_metric((*base, value), _number(known.get(value)))
    return family


def _durations(quantiles: object, steps: float, base: tuple[str, str]) -> Metric:
    """Time of our part of `schedule()` over the last steps."""
    known: Mapping[str, Any] = quantiles if isinstance(quantiles, Mapping) else {}
    name = "scorpio_schedule_duration_seconds"
    labels = dict(zip(LABELS, base, strict=True))
    family = Metric(name, "Time spent planning a step; quantiles over the last steps.", "summary")
    for quantile, key in (("0.5", "p50"), ("0.99", "p99")):
        family.add_sample(name, {**labels, "quantile": quantile}, _number(known.get(key)) / 1e6)
    family.add_sample(f"{name}_count", labels, steps)
    return family


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
