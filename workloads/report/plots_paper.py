"""How do the figures of the SCORPIO paper look with our numbers? One panel per engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workloads.report import published
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
from workloads.results.intervals import Interval
from workloads.results.policy_order import policy_order, policy_style

_PUBLISHED: dict[str, Any] = {"SCORPIO": "#E69F00", "best rival": "#444444"}
_ARRIVING: dict[str, Any] = {"color": QUIET, "linewidth": 1.0, "linestyle": ":"}
_PAPER_ENGINE = "prefill-first"
_BARS = {"stock vLLM": "#8a8a8a", "TTFT guard": "#56B4E9", "TPOT guard": "#009E73",
         "both": "#E69F00"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadRow:
    """One policy at one load. run_goodput_rps counts until the last answer."""

    engine: str
    policy: str
    qps: float
    adherence: Interval
    goodput_rps: float
    run_goodput_rps: float
    rejected_share: float


@dataclass(frozen=True, slots=True)
class CurveRow:
    """Good requests finished by time: `count[i]` by `t_s[i]`."""

    engine: str
    policy: str
    sent: int
    good: int
    t_s: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GuardRow:
    """scorpio-paper with one guard or both."""

    engine: str
    guards: str
    qps: float
    adherence: Interval
    goodput_rps: float
    run_goodput_rps: float


@dataclass(frozen=True, slots=True)
class OverheadRow:
    """Mean time per step on this machine, and as a share of the modelled engine's run time."""

    engine: str
    policy: str
    plan_us: float
    scheduler_us: float
    plan_share: float
    scheduler_share: float


def load_plot(rows: Sequence[LoadRow]) -> Plot:
    """Adherence and goodput against load; the published goodput beside ours."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    with styled():
        figure = new_figure(7.0)
        axes = figure.subplots(2, len(engines), sharey="row", squeeze=False)
        for column, engine in enumerate(engines):
            mine = [row for row in rows if row.engine == engine]
            above, below = axes[0][column], axes[1][column]
            for policy in _policies(mine):
                line = [row for row in mine if row.policy == policy]
                qps = [row.qps for row in line]
                style = policy_style(policy)
                look = {"marker": style.marker, "markersize": 4.5, **line_options(policy)}
                spread = [
                    [max(0.0, row.adherence.mean - row.adherence.low) for row in line],
                    [max(0.0, row.adherence.high - row.adherence.mean) for row in line],
                ]
                means = [row.adherence.mean for row in line]
                above.errorbar(qps, means, yerr=spread, capsize=2, elinewidth=0.8, **look)
                below.plot(qps, [row.run_goodput_rps for row in line], **look)
            if engine == _PAPER_ENGINE:
                for name, colour in _PUBLISHED.items():
                    points = published.GOODPUT[name]
                    below.plot(list(points), list(points.values()), **_dotted(colour))
            percent_axis(above)
            above.set_title(f"{engine}: adherence")
            below.set_title(f"{engine}: goodput")
            below.set_xlabel("requests per second sent")
        axes[1][0].set_ylim(bottom=0.0)  # shared, so only once everything is drawn
        axes[0][0].set_ylabel("share of all requests")
        axes[1][0].set_ylabel("good requests/s of the run")
        extra = [
            Line2D([], [], label=f"{name}, published", **_dotted(colour))
            for name, colour in _PUBLISHED.items()
        ]
        policy_legend(figure, _policies(rows), extra, below=True)
        caption = "Adherence and goodput against load, the paper's engine and a modern one."
        return finish(figure, "load", caption)


def cumulative_plot(rows: Sequence[CurveRow], arrivals_s: Sequence[float]) -> Plot:
    """Good requests finished so far; the dotted line is what has arrived."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    with styled():
        figure = new_figure(4.6)
        axes = figure.subplots(1, len(engines), sharey=True, squeeze=False)[0]
        for axis, engine in zip(axes, engines, strict=True):
            minutes = [at_s / 60.0 for at_s in arrivals_s]
            axis.plot(minutes, range(1, len(minutes) + 1), **_ARRIVING)
            for row in rows:
                if row.engine == engine:
                    axis.plot([t / 60.0 for t in row.t_s], row.count, **line_options(row.policy))
            axis.set_title(engine)
            axis.set_xlabel("minutes")
            axis.set_xlim(left=0.0)
            axis.set_ylim(bottom=0.0)
        axes[0].set_ylabel("good requests so far")
        extra = [Line2D([], [], label="all that arrived", **_ARRIVING)]
        policy_legend(figure, _policies(rows), extra, below=True, markers=False)
        return finish(figure, "cumulative", "Good requests over time on the Azure trace.")


def guards_plot(rows: Sequence[GuardRow]) -> Plot:
    """A bar per guard; the published ablation as marks."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    with styled():
        figure = new_figure(4.2)
        axes = figure.subplots(1, len(engines), squeeze=False)[0]
        for axis, engine in zip(axes, engines, strict=True):
            mine = [row for row in rows if row.engine == engine]
            names = [row.guards for row in mine]
            heights = [row.run_goodput_rps for row in mine]
            axis.bar(names, heights, color=[_BARS[name] for name in names], width=0.65)
            shown = published.GUARDS if engine == _PAPER_ENGINE else {}
            for place, row in enumerate(mine):
                mark = shown.get(row.guards, 0.0)
                if mark:
                    axis.plot(place, mark, **_MARK)
                text = f"{row.run_goodput_rps:.1f}\n{100 * row.adherence.mean:.0f} %"
                top = (place, max(row.run_goodput_rps, mark))
                axis.annotate(text, top, xytext=(0, 4), textcoords="offset points", ha="center")
            axis.set_ylim(0.0, 1.25 * max(heights) or None)
            axis.grid(axis="x", visible=False)
            axis.set_title(f"{engine}, {mine[0].qps:g} requests/s")
        axes[0].set_ylabel("good requests/s of the run")
        _mark_legend(figure)
        return finish(figure, "guards", "The paper's guards, each alone and both.")


def overhead_plot(rows: Sequence[OverheadRow]) -> Plot:
    """Time in the policy per run time, in percent; a band for what the paper reports."""
    engines = list(dict.fromkeys(row.engine for row in rows))
    with styled():
        figure = new_figure(3.6)
        axes = figure.subplots(1, len(engines), sharex=True, squeeze=False)[0]
        for axis, engine in zip(axes, engines, strict=True):
            mine = [row for row in rows if row.engine == engine]
            for place, row in enumerate(mine):
                share = 100.0 * row.plan_share
                axis.barh(place, share, color=policy_style(row.policy).colour, height=0.65)
                text = f" {share:.2f} %  ({row.plan_us:.0f} µs a step)"
                axis.annotate(text, (share, place), va="center", fontsize=9)
            low, high = (100.0 * share for share in published.OVERHEAD)
            axis.axvspan(low, high, color=INK, alpha=0.35, linewidth=0)
            axis.set_yticks(range(len(mine)), [row.policy for row in mine])
            axis.set_ylim(len(mine) - 0.5, -0.5)
            axis.grid(axis="y", visible=False)
            axis.set_title(engine)
            axis.set_xlabel("planning, % of the engine's run time (band: paper)")
        widest = max(100.0 * row.plan_share for row in rows)
        axes[0].set_xlim(0.0, 1.9 * widest or 1.0)
        return finish(figure, "overhead", "What planning costs, as a share of run time.")


_MARK: dict[str, Any] = {
    "marker": "_", "markersize": 34, "markeredgewidth": 2.2, "color": INK, "linestyle": "none",
}  # fmt: skip


def _mark_legend(figure: Figure) -> None:
    entry = Line2D([], [], label="published", **{**_MARK, "markersize": 16})
    figure.legend(handles=[entry], loc="outside lower center")


def _dotted(colour: str) -> dict[str, Any]:
    return {"color": colour, "linestyle": (0, (1, 1.2)), "linewidth": 2.0, "zorder": 2}


def _policies(rows: Sequence[LoadRow | CurveRow]) -> list[str]:
    return sorted({row.policy for row in rows}, key=policy_order)
