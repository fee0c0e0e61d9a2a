"""How do the policies compare as load grows? Attainment and goodput against offered load."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workloads.report.figure_style import (
    INK,
    QUIET,
    Plot,
    finish,
    line_options,
    new_figure,
    percent_axis,
    policy_legend,
    styled,
)
from workloads.report.findings import load_text
from workloads.results.aggregate import LoadPoint
from workloads.results.intervals import Interval
from workloads.results.policy_order import policy_order, policy_style

_CEILING: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (2, 1)), "zorder": 2}
_OUT_OF_REACH: dict[str, Any] = {"color": "#000000", "alpha": 0.06, "linewidth": 0, "zorder": 1}
_ARRIVING: dict[str, Any] = {"color": QUIET, "linewidth": 1.0, "linestyle": ":"}


@dataclass(frozen=True, slots=True)
class _Measure:
    """What is drawn: a value of each point, its ceiling, and words for both forms of figure."""

    name: str
    title: str
    unit: str
    caption: str
    pick: Callable[[LoadPoint], Interval | None]
    per_second: bool


_ATTAINMENT = _Measure(
    "attainment",
    "Requests served within their promise",
    "share of all requests sent",
    "Share of all requests sent that finished within their latency promises (attainment)."
    " Higher is better. Rejected and failed requests count as not served.",
    lambda point: point.attainment,
    per_second=False,
)
_GOODPUT = _Measure(
    "goodput",
    "Goodput",
    "good requests per second",
    "Requests served within their promise, per second of the arrival window (goodput)."
    " The dotted line is what arrives.",
    lambda point: point.goodput_rps,
    per_second=True,
)


def attainment_plot(points: Sequence[LoadPoint]) -> Plot:
    """Share of all requests served within their promise: lines over load, bars at one load."""
    return _plot(points, _ATTAINMENT)


def goodput_plot(points: Sequence[LoadPoint]) -> Plot:
    """Well-served requests per second: lines over load, bars at one load."""
    return _plot(points, _GOODPUT)


def _plot(points: Sequence[LoadPoint], measure: _Measure) -> Plot:
    one_load = len({point.rate_scale for point in points}) == 1
    with styled():
        figure = _bars(points, measure) if one_load else _curves(points, measure)
        return finish(figure, measure.name, measure.caption + _spread_note(points))


def _curves(points: Sequence[LoadPoint], measure: _Measure) -> Figure:
    figure = new_figure(4.8)
    axis = figure.subplots()
    drawn = _lines(axis, points, measure)
    extra = _ceiling(axis, points, measure)
    if measure.per_second:
        loads = sorted({p.offered_rps for p in points if p.offered_rps is not None})
        axis.plot(loads, loads, **_ARRIVING)
        extra.append(Line2D([], [], label="all that arrives", **_ARRIVING))
        axis.set_ylim(bottom=0.0)
    else:
        percent_axis(axis)
    axis.set_title(measure.title)
    axis.set_xlabel("offered load (requests per second)")
    axis.set_ylabel(measure.unit)
    policy_legend(figure, drawn, extra)
    return figure


def _bars(points: Sequence[LoadPoint], measure: _Measure) -> Figure:
    """One load: a horizontal bar per policy, the ceiling as a line."""
    shown = [(point, value) for point in points if (value := measure.pick(point)) is not None]
    figure = new_figure(1.2 + 0.4 * len(shown))
    axis = figure.subplots()
    scale = 1.0 if measure.per_second else 100.0
    for row, (point, value) in enumerate(shown):
        below, above = max(0.0, value.mean - value.low), max(0.0, value.high - value.mean)
        axis.barh(
            row,
            scale * value.mean,
            height=0.68,
            color=policy_style(point.policy).colour,
            xerr=[[scale * below], [scale * above]],
            error_kw={"elinewidth": 1, "capsize": 2.5, "ecolor": INK},
        )
        text = f"{scale * value.mean:.1f} %" if scale > 1.0 else f"{value.mean:.2f}"
        edge = (scale * max(value.high, value.mean), row)
        axis.annotate(text, edge, xytext=(6, 0), textcoords="offset points", va="center")
    point = points[0]
    limit = (point.offered_rps or 0.0) if measure.per_second else 100.0
    if measure.per_second:
        axis.axvline(limit, **_ARRIVING)
    bound = next((p.bound_attainment for p in points if p.bound_attainment is not None), None)
    if bound is not None:
        axis.axvline(limit * bound, **_CEILING)
        axis.axvspan(limit * bound, 1.15 * limit, **_OUT_OF_REACH)
    axis.set_yticks(range(len(shown)), [point.policy for point, _ in shown])
    axis.set_ylim(len(shown) - 0.45, -0.55)
    axis.set_xlim(0.0, 1.15 * limit if limit else None)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(measure.unit if measure.per_second else f"{measure.unit} (%)")
    axis.set_title(f"{measure.title}, at {load_text(point)}")
    return figure


def _lines(axis: Any, points: Sequence[LoadPoint], measure: _Measure) -> list[str]:
    """Draw one line per policy; returns the policies, best at the highest load first."""
    last: dict[str, tuple[float, float]] = {}
    policies = sorted({point.policy for point in points}, key=policy_order)
    all_loads = [point.offered_rps for point in points if point.offered_rps is not None]
    step = 0.004 * (max(all_loads) - min(all_loads)) if all_loads else 0.0
    for place, policy in enumerate(policies):
        aside = step * (place - (len(policies) - 1) / 2)  # so that intervals do not hide each other
        known = [
            (point.offered_rps, value)
            for point in points
            if point.policy == policy
            and point.offered_rps is not None
            and (value := measure.pick(point)) is not None
        ]
        if not known:
            continue
        known.sort(key=lambda item: item[0])
        loads = [load for load, _ in known]
        means = [value.mean for _, value in known]
        below = [max(0.0, value.mean - value.low) for _, value in known]
        above = [max(0.0, value.high - value.mean) for _, value in known]
        style = policy_style(policy)
        axis.errorbar(
            [load + aside for load in loads],
            means,
            yerr=[below, above],
            marker=style.marker,
            markersize=5,
            capsize=2.5,
            elinewidth=1,
            **line_options(policy),
        )
        last[policy] = (loads[-1], means[-1])
    _load_ticks(axis, points)
    return sorted(last, key=lambda policy: last[policy], reverse=True)


def _load_ticks(axis: Any, points: Sequence[LoadPoint]) -> None:
    """Few loads: a tick at each, with its rate scale; many: matplotlib's own ticks."""
    scales: dict[float, float] = {}
    for point in points:
        if point.offered_rps is not None:
            scales.setdefault(point.rate_scale, point.offered_rps)
    loads = sorted(scales.values())
    span = loads[-1] - loads[0] if loads else 0.0
    gaps = [later - earlier for earlier, later in itertools.pairwise(loads)]
    if span > 0.0 and min(gaps) >= 0.07 * span:
        axis.set_xticks(loads)
        axis.set_xticklabels([f"{load:.3g}\n×{scale:g}" for scale, load in sorted(scales.items())])


def _ceiling(axis: Any, points: Sequence[LoadPoint], measure: _Measure) -> list[Any]:
    """The clairvoyant ceiling, shaded above; returns its legend entry."""
    ceiling = sorted(
        {
            (p.offered_rps, p.bound_attainment * (p.offered_rps if measure.per_second else 1.0))
            for p in points
            if p.bound_attainment is not None and p.offered_rps is not None
        }
    )
    if not ceiling:
        return []
    loads, values = zip(*ceiling, strict=True)
    top = max(loads) if measure.per_second else 1.03
    axis.plot(loads, values, **_CEILING)
    axis.fill_between(loads, values, top, **_OUT_OF_REACH)
    return [Line2D([], [], label="ceiling: no policy can do more", **_CEILING)]


def _spread_note(points: Sequence[LoadPoint]) -> str:
    runs = {len(point.runs) for point in points if point.runs}
    many = f"{min(runs)}" if len(runs) == 1 else f"{min(runs)} to {max(runs)}"
    note = f" Whiskers are 95 % bootstrap intervals, {many} run{'' if runs == {1} else 's'} each"
    if any(point.bound_attainment is not None for point in points):
        return note + "; the grey area is out of reach of any policy on this very traffic."
    return note + "."
