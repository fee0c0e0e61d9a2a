"""Can the forecasts be relied on? Reliability diagram and PIT histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from workloads.report.figure_style import (
    QUIET,
    Plot,
    finish,
    is_narrow,
    line_options,
    new_figure,
    percent_axis,
    policy_legend,
    styled,
)
from workloads.results.aggregate import LoadPoint
from workloads.results.forecast_quality import (
    BINS,
    KINDS,
    Checked,
    Kind,
    brier,
    check,
    distance_from_uniform,
    pits,
    reliability,
)
from workloads.results.policy_order import policy_style

_LARGEST_DOT = 220.0  # points^2, for a bin that holds everything
_LEAST_SHOWN = 10  # requests in a bin
Forecasts = Mapping[str, Mapping[Kind, Sequence[Checked]]]


def forecast_plots(points: Sequence[LoadPoint], load_text: str) -> list[Plot]:
    """Both figures, or none when no policy forecast enough."""
    told = {point.policy: {kind: _checked(point, kind) for kind in KINDS} for point in points}
    told = {
        name: kinds for name, kinds in told.items() if any(len(pits(c)) for c in kinds.values())
    }
    return [_reliability_plot(told, load_text), _pit_plot(told, load_text)] if told else []


def _checked(point: LoadPoint, kind: Kind) -> list[Checked]:
    """Each run by itself: what one run taught is not known to another."""
    return [one for run in point.runs for one in check(run.records, kind)]


def _reliability_plot(told: Forecasts, load_text: str) -> Plot:
    with styled():
        above = is_narrow()  # one panel above the other
        figure = new_figure(8.4 if above else 4.6)
        axes = figure.subplots(*((len(KINDS), 1) if above else (1, len(KINDS))), sharey=True)
        for axis, kind in zip(axes, KINDS, strict=True):
            axis.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
            notes = [
                _reliability_line(axis, policy, kinds[kind])
                for policy, kinds in told.items()
                if brier(kinds[kind]) is not None
            ]
            axis.set_xlim(-0.03, 1.03)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
            axis.set_xlabel(f"forecast chance to keep the {kind.upper()} promise")
            scores = "Brier: " + ", ".join(notes) if notes else "too few"
            _titles(axis, kind.upper(), scores)
        for axis in axes if above else axes[:1]:
            percent_axis(axis)
            axis.set_ylabel("share that kept it")
        policy_legend(figure, told, below=True)
        return finish(
            figure,
            "reliability",
            f"At {load_text}: of the requests that were let in with a given chance to keep their"
            " promise, how many did. On the dotted line the chances are known; below it lie false"
            " admits. The larger the dot, the more requests (bins of fewer than ten are left out);"
            " bars are 95 % intervals, Brier scores are best at 0. The chance"
            " comes from the policy's forecast at admission and the errors of its earlier ones.",
        )


def _reliability_line(axis: Any, policy: str, checked: Sequence[Checked]) -> str:
    """Draws it; returns the note about it."""
    found = [b for b in reliability(checked) if b.requests >= _LEAST_SHOWN]
    chance, kept = np.array([b.chance for b in found]), np.array([b.kept for b in found])
    low, high = np.array([b.low for b in found]), np.array([b.high for b in found])
    counts = np.array([b.requests for b in found])
    options = line_options(policy)
    error = np.maximum([kept - low, high - kept], 0.0)
    axis.errorbar(chance, kept, yerr=error, fmt="none", ecolor=options["color"], elinewidth=0.9)
    axis.plot(chance, kept, **(options | {"linewidth": 1.2}))
    axis.scatter(
        chance, kept, 12.0 + _LARGEST_DOT * counts / max(counts.sum(), 1), color=options["color"],
        marker=policy_style(policy).marker, alpha=0.75, zorder=options["zorder"], clip_on=False,
    )  # fmt: skip
    return f"{policy} {brier(checked):.3f}"


def _pit_plot(told: Forecasts, load_text: str) -> Plot:
    with styled():
        columns = 1 if is_narrow() else len(KINDS)
        panels = [(policy, kind) for policy in told for kind in KINDS]
        rows = len(panels) // columns
        figure = new_figure(1.3 + (2.0 if columns == 1 else 1.75) * rows)
        axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axis, (policy, kind) in zip(axes.flat, panels, strict=True):
            _pit_panel(axis, policy, kind, told[policy][kind])
        for axis in axes[-1]:
            axis.set_xlabel("where in its forecast distribution the outcome fell")
            axis.set_xticks([0.05, 0.5, 0.95], ["far earlier", "as forecast", "far later"])
        return finish(
            figure,
            "pit",
            f"At {load_text}: how outcomes lie in what was forecast at admission (PIT). Level at 1"
            " (within the grey band of chance) is calibrated; a pile on the right means that the"
            " forecasts are too short, on the left too long. Above each panel: the middle of"
            " outcome / forecast with the span of nine in ten, and the distance D from a level"
            " histogram (0 = none, 1 = most).",
        )


def _pit_panel(axis: Any, policy: str, kind: Kind, checked: Sequence[Checked]) -> None:
    values = pits(checked)
    title = f"{policy}, {kind.upper()}"
    if not len(values):
        _titles(axis, title, "")
        return
    counts, edges = np.histogram(values, bins=BINS, range=(0.0, 1.0))
    spread = 1.96 * np.sqrt((BINS - 1) / len(values))  # binomial, as a share of the mean count
    axis.axhspan(max(1.0 - spread, 0.0), 1.0 + spread, color="#ececec", zorder=0)
    axis.axhline(1.0, color=QUIET, linewidth=1, linestyle=":")
    axis.stairs(counts * BINS / len(values), edges, fill=True, alpha=0.85,
                color=policy_style(policy).colour)  # fmt: skip
    axis.set_ylim(0.0, max(1.08 * counts.max() * BINS / len(values), 1.3))
    axis.grid(axis="x", visible=False)
    low, middle, high = np.percentile([c.ratio for c in checked], (5, 50, 95))
    _titles(
        axis,
        title,
        f"×{middle:.2f} ({low:.2f}-{high:.2f})   D {distance_from_uniform(values):.2f}"
        f"   n {len(values):,}",
    )


def _titles(axis: Any, name: str, note: str) -> None:
    """Side by side where there is room, else one line each."""
    if is_narrow():
        axis.set_title(f"{name}\n{note}".rstrip(), loc="left", fontsize=8)
        return
    axis.set_title(name, fontsize=9.5)
    axis.set_title(note, loc="right", fontweight="normal", fontsize=8)
