"""What does Prometheus see of a policy that watches and is not obeyed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from scorpio.server.state.loose import mapping, number

_SHADOW = ("refused", "earlier", "same", "later")


def shadow_metrics(
    labels: tuple[str, ...], engines: Sequence[tuple[tuple[str, str], Mapping[str, Any]]]
) -> Iterator[Metric]:
    """labels: of an engine; engines: the values of these, and its status. All zero where there is
    no shadow."""
    requests = CounterMetricFamily(
        "scorpio_shadow_requests",
        "Requests by what the shadow would have done: refused, or started earlier, later, alike.",
        labels=(*labels, "verdict"),
    )
    errors = CounterMetricFamily(
        "scorpio_shadow_errors", "Errors of the shadow; no decision depends on it.", labels=labels
    )
    watching = GaugeMetricFamily(
        "scorpio_shadow_watching", "1 while a shadow is asked in each step.", labels=labels
    )
    for base, state in engines:
        shadow = mapping(state.get("shadow"))
        counts = mapping(shadow.get("requests"))
        for verdict in _SHADOW:
            requests.add_metric((*base, verdict), number(counts.get(verdict)))
        errors.add_metric(base, number(shadow.get("errors")))
        watching.add_metric(base, float(shadow.get("watching") is True))
    yield from (requests, errors, watching)
