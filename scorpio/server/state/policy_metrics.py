"""What shall Prometheus see of a policy that is off, on a share of the requests, or in the shadow?

Out of the engines' status files, as metrics.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from scorpio.channel import BREAKERS, BY_HAND, POLICY_ARM, STOCK_ARM
from scorpio.core.plan import FinalState
from scorpio.server.state.loose import mapping, number

LABELS = ("model_name", "engine")
OfEngine = tuple[tuple[str, str], Mapping[str, Any]]  # values of LABELS, the engine's status
# of the shadow's requests, in the status file
_SHADOW = ("refused", "earlier", "same", "later")


def off_metrics(engines: Sequence[OfEngine]) -> Iterator[Metric]:
    """Is the policy off, and how often did it turn itself off?"""
    gauge = GaugeMetricFamily(
        "scorpio_policy_off", "1 while the policy is off, by why.", labels=(*LABELS, "why")
    )
    opened = CounterMetricFamily(
        "scorpio_breaker_opened",
        "How often the policy was turned off by itself, by why.",
        labels=(*LABELS, "why"),
    )
    for base, state in engines:
        for why in (*BREAKERS, BY_HAND):
            gauge.add_metric((*base, why), float(state.get("policy_off") == why))
        for why in BREAKERS:
            count = number(mapping(state.get("breakers_opened")).get(why))
            opened.add_metric((*base, why), count)
    yield gauge
    yield opened


def canary_metrics(engines: Sequence[OfEngine], names: Iterable[str]) -> Iterator[Metric]:
    """What came of the requests on each side of a canary, by class."""
    family = CounterMetricFamily(
        "scorpio_canary_requests",
        "Requests by whether the policy decided on them or they were served as stock.",
        labels=(*LABELS, "arm", "slo_class", "outcome"),
    )
    for base, state in engines:
        for arm in (POLICY_ARM, STOCK_ARM):
            classes = mapping(mapping(state.get("canary")).get(arm))
            for name in names:
                counts = mapping(classes.get(name))
                told = dict(mapping(counts.get("outcomes"))) | {"good": counts.get("good")}
                for outcome in (*(s.value for s in FinalState), "good"):
                    family.add_metric((*base, arm, name, outcome), number(told.get(outcome)))
    yield family


def shadow_metrics(engines: Sequence[OfEngine]) -> Iterator[Metric]:
    """A policy that watches and is not obeyed; all zero where there is none."""
    requests = CounterMetricFamily(
        "scorpio_shadow_requests",
        "Requests by what the shadow would have done: refused, or started earlier, later, alike.",
        labels=(*LABELS, "verdict"),
    )
    errors = CounterMetricFamily(
        "scorpio_shadow_errors", "Errors of the shadow; no decision depends on it.", labels=LABELS
    )
    watching = GaugeMetricFamily(
        "scorpio_shadow_watching", "1 while a shadow is asked in each step.", labels=LABELS
    )
    for base, state in engines:
        shadow = mapping(state.get("shadow"))
        counts = mapping(shadow.get("requests"))
        for verdict in _SHADOW:
            requests.add_metric((*base, verdict), number(counts.get(verdict)))
        errors.add_metric(base, number(shadow.get("errors")))
        watching.add_metric(base, float(shadow.get("watching") is True))
    yield from (requests, errors, watching)
