"""What does Prometheus see of the length predictor? The ladders of all API processes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scorpio.server.request.lengths import LengthService

_COUNTERS = (
    ("observed", "scorpio_length_outcomes", "Finished answers the predictor has learned from."),
    ("demotions", "scorpio_length_demotions", "Times the trained model lost its coverage."),
    ("failures", "scorpio_length_model_failures", "Predictions the trained model could not make."),
    ("server_failures", "scorpio_length_failures", "Requests served without asking the ladder."),
)
_GAUGES = (
    ("trained", "scorpio_length_model_loaded", "1 when there is a trained model."),
    ("demoted", "scorpio_length_model_demoted", "1 while the trained model is not believed."),
    ("histograms", "scorpio_length_histograms", "Histograms of (model, tenant, system prompt)."),
)


class LengthCollector(Collector):
    """One scrape."""

    def __init__(self, lengths: LengthService, labels: dict[str, str]) -> None:
        self._lengths = lengths
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        state = self._lengths.state()
        names, values = list(self._labels), list(self._labels.values())
        rungs = CounterMetricFamily(
            "scorpio_length_predictions",
            "Predicted answer lengths, by the rung of the ladder that answered.",
            labels=[*names, "rung"],
        )
        for rung, count in state["answers"].items():
            rungs.add_metric([*values, rung], count)
        yield rungs
        for key, name, text in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=names)
            counter.add_metric(values, float(state[key]))
            yield counter
        for key, name, text in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=names)
            gauge.add_metric(values, float(state[key]))
            yield gauge
        coverage = GaugeMetricFamily(
            "scorpio_length_coverage_ratio",
            "Share of late answers at or below each quantile of the trained model.",
            labels=[*names, "quantile"],
        )
        for quantile, share in state["coverage"].items():
            coverage.add_metric([*values, quantile.removeprefix("q")], share)
        yield coverage
        name = "scorpio_length_prediction_seconds"
        times = Metric(name, "Time of a prediction, over the last ones.", "summary")
        for quantile, seconds in state["prediction_s"].items():
            times.add_sample(name, {**self._labels, "quantile": quantile}, seconds)
        times.add_sample(f"{name}_count", self._labels, float(state["predictions"]))
        yield times
