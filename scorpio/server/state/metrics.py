"""What shall Prometheus see of the engine? EngineCore's counters, out of its status file.

Served with vLLM's own (scrape.py). What the API process counts itself are plain counters, which
vLLM serves in each of its modes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from prometheus_client import Counter
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from scorpio.channel import SLACK_BOUNDS_S
from scorpio.core.plan import FinalState, RejectReason
from scorpio.server.context import ServerContext
from scorpio.server.request.slo_headers import FIELDS
from scorpio.server.state.loose import mapping, number
from scorpio.server.state.policy_metrics import (
    LABELS,
    OfEngine,
    canary_metrics,
    off_metrics,
    shadow_metrics,
)

METRICS_PATH = "/metrics"

MALFORMED = Counter(
    "scorpio_malformed_requests",
    "Requests answered 400 because an SLO field was malformed.",
    ["model_name", "field"],
)
FOREIGN = Counter(
    "scorpio_foreign_objectives",
    "Requests whose objective header names none of the configured classes.",
    ["model_name"],
)
ANSWERED = Counter(
    "scorpio_refusals_answered",
    "Refusals told to HTTP clients, by status and reason.",
    ["model_name", "status", "reason"],
)
CLOSED = Counter(
    "scorpio_connections_closed",
    "Connections of clients that this process closed or did not take, by why.",
    ["model_name", "why"],
)


# metric, help, label, its values, key of a class in the status file
_COUNTERS: tuple[tuple[str, str, str, list[str], str], ...] = (
    (
        "scorpio_requests",
        "Requests that ended, by how.",
        "outcome",
        [s.value for s in FinalState],
        "outcomes",
    ),
    (
        "scorpio_admission_rejections",
        "Requests refused before their first token, by reason.",
        "reason",
        [r.value for r in RejectReason],
        "rejections",
    ),
    (
        "scorpio_request_slo_violation",
        "Broken promises of finished requests, as the engine saw them.",
        "type",
        ["ttft", "tpot", "e2e"],
        "violations",
    ),
    (
        "scorpio_forecasts",
        "Finished requests for which the policy had forecast this time when it let them in.",
        "type",
        ["ttft", "tpot"],
        "forecasts",
    ),
    (
        "scorpio_forecasts_exceeded",
        "Those of them for which it took longer than forecast.",
        "type",
        ["ttft", "tpot"],
        "forecasts_exceeded",
    ),
)


# metric, help, key in the status file
_TOTALS = (
    ("scorpio_policy_fallback", "Steps that ran stock because the policy failed.", "fallbacks"),
    (
        "scorpio_filled_steps",
        "Planned steps that would have computed nothing while a request could run.",
        "filled_steps",
    ),
    (
        "scorpio_monitoring_errors",
        "Errors of counters, status file and step recorder; no decision depends on them.",
        "monitoring_errors",
    ),
)
_GAUGES = (
    ("scorpio_waiting_requests", "Requests in the waiting queue.", "waiting"),
    (
        "scorpio_waiting_prompt_tokens",
        "Prompt tokens of the waiting requests.",
        "waiting_prompt_tokens",
    ),
    ("scorpio_running_requests", "Requests in the running batch.", "running"),
    (
        "scorpio_breaker_open",
        "1 while the policy is off by itself: errors, cost or wrong forecasts.",
        "breaker_open",
    ),
    (
        "scorpio_passthrough",
        "1 while the engine is served as stock, for a feature that is not supported.",
        "passthrough",
    ),
    ("scorpio_profile_alarm", "1 while steps are far off the latency profile.", "profile_alarm"),
)


class EngineCollector(Collector):
    """One scrape of the status files: each series once for each engine."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        name, status = self._server.model_name, self._server.status
        found = status.by_engine()
        engines = [((name, str(i)), found.get(i, {})) for i in status.engines]
        yield self._policy_info(engines)
        yield from off_metrics(engines)
        yield from self._by_class(engines)
        steps = CounterMetricFamily(
            "scorpio_steps",
            "Scheduler steps: stock = vLLM's own, planned = shaped by the policy.",
            labels=(*LABELS, "kind"),
        )
        for base, state in engines:
            for kind in ("stock", "planned"):
                steps.add_metric((*base, kind), number(state.get(f"{kind}_steps")))
        yield steps
        for metric, text, key in _TOTALS:
            counter = CounterMetricFamily(metric, text, labels=LABELS)
            for base, state in engines:
                counter.add_metric(base, number(state.get(key)))
            yield counter
        for metric, text, key in _GAUGES:
            gauge = GaugeMetricFamily(metric, text, labels=LABELS)
            for base, state in engines:
                gauge.add_metric(base, number(state.get(key)))
            yield gauge
        yield from shadow_metrics(engines)
        yield _quantiles(
            "scorpio_schedule_duration_seconds",
            "Time spent planning a step, over the last steps under this policy.",
            [(base, state.get("schedule_us")) for base, state in engines],
            1e-6,
        )
        yield _quantiles(
            "scorpio_prediction_error_ratio",
            "|profile's step time - measured| / measured, over the last steps.",
            [(base, state.get("step_error")) for base, state in engines],
        )
        for kind in ("ttft", "tpot"):
            yield _quantiles(
                f"scorpio_{kind}_forecast_error_ratio",
                f"|{kind.upper()} forecast at admission - measured| / measured, last requests.",
                [(base, mapping(state.get("forecast_error")).get(kind)) for base, state in engines],
            )

    def _by_class(self, engines: Sequence[OfEngine]) -> Iterator[Metric]:
        """The label set is the operator's: one value for each configured class, and one for
        requests that name none. Every series is there from the first scrape."""
        settings = self._server.settings
        names = dict.fromkeys([settings.unnamed_class, *sorted(settings.classes)])
        classes = [
            ((*base, name), mapping(mapping(state.get("by_class")).get(name)))
            for base, state in engines
            for name in names
        ]
        for metric, text, label, values, key in _COUNTERS:
            family = CounterMetricFamily(metric, text, labels=(*LABELS, "slo_class", label))
            for labels, counts in classes:
                known = mapping(counts.get(key))
                for value in values:
                    family.add_metric((*labels, value), number(known.get(value)))
            yield family
        slack = HistogramMetricFamily(
            "scorpio_request_ttft_slack_seconds",
            "Time left to the TTFT deadline at the first token; negative = late.",
            labels=(*LABELS, "slo_class"),
        )
        for labels, counts in classes:
            # no sum, hence no count: Prometheus has none for values below zero
            slack.add_metric(labels, _buckets(counts.get("ttft_slack")), None)
        yield slack
        if settings.canary < 1.0:
            yield from canary_metrics(engines, names)

    def _policy_info(self, engines: Sequence[OfEngine]) -> Metric:
        info = GaugeMetricFamily(
            "scorpio_policy_info", "The policy that is on.", labels=(*LABELS, "policy", "version")
        )
        for base, state in engines:
            policy = str(state.get("policy", self._server.settings.policy))
            told = (policy, str(state.get("policy_version", "")))
            info.add_metric((*base, *(t.encode(errors="replace").decode() for t in told)), 1.0)
        return info


def count_malformed(server: ServerContext, field: str) -> None:
    """One 400. Other fields than ours are the client's words, and so no labels."""
    MALFORMED.labels(server.model_name, field if field in FIELDS else "other").inc()


def count_foreign_objective(server: ServerContext) -> None:
    """One objective that is not ours. The name itself is the client's, so it is no label."""
    FOREIGN.labels(server.model_name).inc()


def count_answered(server: ServerContext, status: int, reason: str) -> None:
    """One refusal told to a client, by the engine or by this process."""
    ANSWERED.labels(server.model_name, str(status), reason).inc()


def count_closed(server: ServerContext, why: str) -> None:
    """One connection."""
    CLOSED.labels(server.model_name, why).inc()


def _quantiles(
    name: str, text: str, engines: Sequence[tuple[tuple[str, str], object]], unit: float = 1.0
) -> Metric:
    """p50 and p99 of the status as a summary without count and sum."""
    family = Metric(name, text, "summary")
    for base, quantiles in engines:
        known, labels = mapping(quantiles), dict(zip(LABELS, base, strict=True))
        for quantile, key in (("0.5", "p50"), ("0.99", "p99")):
            family.add_sample(name, {**labels, "quantile": quantile}, number(known.get(key)) * unit)
    return family


def _buckets(counts: object) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    given = counts if isinstance(counts, list) else []
    total, buckets = 0.0, []
    for row, bound in enumerate((*SLACK_BOUNDS_S, math.inf)):
        total += number(given[row]) if row < len(given) else 0.0
        buckets.append((floatToGoString(bound), total))
    return buckets
