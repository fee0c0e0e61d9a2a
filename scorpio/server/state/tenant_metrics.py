"""What shall Prometheus see of classes' error budgets, of tenants, and of the SLO file?

Names of classes and tenants are the operator's, so the operator fixes the number of series.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scorpio.server.context import ServerContext
from scorpio.server.state.budgets import BUDGET_WINDOWS, budgets
from scorpio.server.state.loose import mapping, number


class BudgetCollector(Collector):
    """Good requests of each engine and class; target and burn of each class that has a target."""

    def __init__(self, server: ServerContext, labels: Mapping[str, str]) -> None:
        self._server, self._labels = server, labels

    def collect(self) -> Iterator[Metric]:
        settings, names = self._server.settings, list(self._labels)
        classes = dict.fromkeys([settings.unnamed_class, *sorted(settings.classes)])
        good = CounterMetricFamily(
            "scorpio_good_requests",
            "Finished requests that kept their whole SLO.",
            labels=[*names, "slo_class"],
        )
        found = self._server.status.by_engine()
        for engine in self._server.status.engines:
            counts = mapping(found.get(engine, {}).get("by_class"))
            for name in classes:
                value = number(mapping(counts.get(name)).get("good"))
                good.add_metric([self._server.model_name, str(engine), name], value)
        yield good
        target = GaugeMetricFamily(
            "scorpio_slo_target_ratio",
            "Share of a class's requests that are to keep their SLO.",
            labels=[*names, "slo_class"],
        )
        burnt = GaugeMetricFamily(
            "scorpio_error_budget_burn_ratio",
            "Share of requests that did not keep it, as a multiple of what the target leaves.",
            labels=[*names, "slo_class", "window"],
        )
        values = list(self._labels.values())
        for name, budget in budgets(self._server).items():
            target.add_metric([*values, name], budget["target"])
            for window in BUDGET_WINDOWS:
                burnt.add_metric([*values, name, window], budget[window]["burn"])
        yield from (target, burnt)


class TenantCollector(Collector):
    """Tokens and requests of each tenant, in all API processes; how the SLO file fares."""

    def __init__(self, server: ServerContext, labels: Mapping[str, str]) -> None:
        self._server, self._labels = server, labels

    def collect(self) -> Iterator[Metric]:
        names, values = list(self._labels), list(self._labels.values())
        tokens = CounterMetricFamily(
            "scorpio_tenant_tokens",
            "Tokens of a tenant's requests, prompts and answers.",
            labels=[*names, "tenant", "kind"],
        )
        in_flight = GaugeMetricFamily(
            "scorpio_tenant_in_flight_requests",
            "Engine requests of a tenant at once.",
            labels=[*names, "tenant"],
        )
        for name, use in self._server.uses.by_name.items():
            totals = use.totals()
            tokens.add_metric([*values, name, "prompt"], totals.prompt_tokens)
            tokens.add_metric([*values, name, "output"], totals.output_tokens)
            in_flight.add_metric([*values, name], self._server.in_flight.of_account(name))
        yield from (tokens, in_flight)
        for metric, text, value in (
            (
                "scorpio_config_load_timestamp_seconds",
                "When the settings in force were read.",
                self._server.last_loaded_unix_s,
            ),
            (
                "scorpio_config_error",
                "1 while a newer SLO file was not taken.",
                float(bool(self._server.reload_error)),
            ),
            (
                "scorpio_engine_stalled",
                "1 while the engine has work and has made no progress for `stall_s`.",
                float(self._server.stalled),
            ),
        ):
            gauge = GaugeMetricFamily(metric, text, labels=names)
            gauge.add_metric(values, value)
            yield gauge
