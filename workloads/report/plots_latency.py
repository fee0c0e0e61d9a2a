"""How long did users wait, class by class, against what they were promised? Latency CDFs.

A curve is the share of ALL requests of the class, so a policy that rejects some levels off below
100 %: where it crosses the promise is the share that got it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.report.figure_style import (
    SLO_INK,
    Plot,
    finish,
    is_narrow,
    line_options,
    new_figure,
    percent_axis,
    plain_ticks,
    policy_legend,
    styled,
)
from workloads.results.aggregate import LoadPoint
from workloads.results.records import Outcome, RequestRecord

MAX_CLASSES = 6
_CURVE_POINTS = 160
_COLUMNS = 3
Measure = Callable[[RequestRecord], float | None]
# metric: (value of a record in seconds, factor to the unit shown, its name)
_METRICS: dict[str, tuple[Measure, float, str]] = {
    "ttft": (lambda record: record.ttft_s, 1.0, "s"),
    "tpot": (lambda record: record.tpot_s, 1000.0, "ms"),
}


def latency_plot(points: Sequence[LoadPoint], load_text: str) -> Plot:
    """TTFT (top) and TPOT (bottom) of every class, one curve per policy."""
    classes = largest_classes(points)
    columns = min(len(classes), 2 if is_narrow() else _COLUMNS)
    bands = math.ceil(len(classes) / columns)
    with styled():
        figure = new_figure(0.9 + 4.3 * bands)
        axes = figure.subplots(2 * bands, columns, sharey=True, squeeze=False)
        for axis in axes.flat:
            axis.set_visible(False)
        for place, name in enumerate(classes):
            band, column = divmod(place, columns)
            _panel(axes[2 * band][column], points, name, "ttft")
            _panel(axes[2 * band + 1][column], points, name, "tpot")
        for row in axes:
            row[0].set_ylabel("share of requests")
            percent_axis(row[0])
        policy_legend(figure, [point.policy for point in points], below=True, markers=False)
        return finish(
            figure,
            "latency_cdf",
            f"At {load_text}: which share of all requests of a class had its first token (TTFT)"
            " and its average time per further token (TPOT) within the time on the axis. The red"
            " line is the promise, the tinted side is too late. A curve that levels off below"
            " 100 % belongs to a policy that rejected or failed the rest.",
        )


def largest_classes(points: Sequence[LoadPoint]) -> list[str]:
    """Names of the classes with most requests, the tightest promise first."""
    sent: dict[str, int] = {}
    promise: dict[str, tuple[float, float]] = {}
    for record in _records(points):
        name = record.slo_class
        sent[name] = sent.get(name, 0) + 1
        own = (record.ttft_slo_s, record.tpot_slo_s)
        promise[name] = min(promise.get(name, own), own)
    most = sorted(sent, key=lambda name: (-sent[name], name))[:MAX_CLASSES]
    return sorted(most, key=lambda name: (promise[name], name))


def cdf(
    records: Sequence[RequestRecord], measure: Measure
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(values, share of all requests at or below). Requests without a value are never reached;
    a finished request for which it is not defined (TPOT of one token) is left out."""
    counted = [r for r in records if measure(r) is not None or r.outcome is not Outcome.FINISHED]
    values = np.sort([v for r in counted if (v := measure(r)) is not None and _delivered(r)])
    if values.size == 0:
        return np.zeros(0), np.zeros(0)
    shares = np.arange(1, values.size + 1) / len(counted)
    keep = np.unique(np.linspace(0, values.size - 1, _CURVE_POINTS).astype(np.int64))
    return values[keep], shares[keep]


def _panel(axis: Any, points: Sequence[LoadPoint], slo_class: str, metric: str) -> None:
    measure, unit, unit_name = _METRICS[metric]
    axis.set_visible(True)
    axis.set_xscale("log")
    seen: list[float] = []
    for point in points:
        records = [r for run in point.runs for r in run.records if r.slo_class == slo_class]
        values, shares = cdf(records, measure)
        if values.size == 0:
            continue
        values = np.maximum(values * unit, 1e-3)
        seen += [float(values[0]), float(values[-1])]
        values = np.concatenate((values[:1], values, [1e9]))
        shares = np.concatenate(([0.0], shares, shares[-1:]))
        axis.step(values, shares, where="post", **line_options(point.policy))
    members = [record for record in _records(points) if record.slo_class == slo_class]
    slos = {getattr(record, f"{metric}_slo_s") for record in members}
    slo = next(iter(slos)) * unit if len(slos) == 1 else math.inf
    promised = math.isfinite(slo)
    if seen:
        edges = [*seen, slo] if promised else seen
        axis.set_xlim(min(edges) / 1.6, max(*edges, min(edges) * 8) * 1.6)
    if promised:
        axis.axvline(slo, color=SLO_INK, linewidth=1.2, zorder=5)
        axis.axvspan(slo, axis.get_xlim()[1], color=SLO_INK, alpha=0.06, linewidth=0, zorder=0)
    axis.set_title(slo_class)
    promise = f"promise {slo:g} {unit_name}" if promised else "no one promise"
    axis.set_title(promise, loc="right", color=SLO_INK, fontweight="normal", fontsize=9)
    axis.set_xlabel(f"{metric.upper()} ({unit_name})")
    plain_ticks(axis.xaxis)


def _records(points: Sequence[LoadPoint]) -> list[RequestRecord]:
    return [record for point in points for run in point.runs for record in run.records]


def _delivered(record: RequestRecord) -> bool:
    return record.outcome is Outcome.FINISHED
