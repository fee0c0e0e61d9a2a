"""How does attainment grow with the number of replicas? A panel for all requests and each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from workloads.report.figure_style import (
    INK,
    SLO_INK,
    Plot,
    finish,
    line_options,
    new_figure,
    percent_axis,
    policy_legend,
    styled,
)
from workloads.results.policy_order import policy_order, policy_style
from workloads.results.replicas import FleetCurve
from workloads.targets import ALL, Targets

_ACROSS = 3  # panels


def replicas_plot(plans: Sequence[FleetCurve], targets: Targets, where: str) -> Plot:
    """Attainment against replicas; a ring marks the smallest sufficient fleet of each policy."""
    ordered = sorted(plans, key=lambda plan: policy_order(plan.policy))
    names = list(dict.fromkeys(n for plan in ordered for p in plan.points for n in p.groups))
    across = min(_ACROSS, len(names))
    down = -(-len(names) // across)
    with styled():
        figure = new_figure(1.6 + 2.6 * down)
        panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for axis, name in zip(panels, names, strict=False):
            _panel(axis, ordered, name, targets)
        for axis in panels[len(names) :]:
            axis.set_axis_off()
        for axis in panels[::across]:
            axis.set_ylabel("share of requests sent")
        figure.suptitle(f"Replicas needed for {targets}\n{where}", x=0.01, ha="left")
        extra = [
            Line2D([], [], label="target", color=SLO_INK, linestyle=(0, (4, 2))),
            Line2D([], [], label="smallest fleet", marker="o", markersize=11, fillstyle="none",
                   color=INK, linestyle="none"),
        ]  # fmt: skip
        policy_legend(figure, [plan.policy for plan in ordered], extra, below=True)
        return finish(figure, "plan", f"Attainment against the number of replicas: {where}.")


def _panel(axis: Any, plans: Sequence[FleetCurve], name: str, targets: Targets) -> None:
    for plan in plans:
        points = [point for point in plan.points if name in point.groups]
        shares = [point.groups[name] for point in points]
        axis.errorbar(
            [point.replicas for point in points],
            [share.mean for share in shares],
            yerr=[
                [max(0.0, share.mean - share.low) for share in shares],
                [max(0.0, share.high - share.mean) for share in shares],
            ],
            marker=policy_style(plan.policy).marker,
            markersize=5,
            capsize=2.5,
            elinewidth=1,
            **line_options(plan.policy),
        )
        if plan.needed is not None and name in plan.needed.groups:
            axis.plot(
                plan.needed.replicas,
                plan.needed.groups[name].mean,
                marker="o",
                markersize=13,
                fillstyle="none",
                color=policy_style(plan.policy).colour,
                zorder=6,
                clip_on=False,
            )
    if name in targets.shares:
        axis.axhline(targets.shares[name], color=SLO_INK, linewidth=1.2, linestyle=(0, (4, 2)))
    sizes = sorted({point.replicas for plan in plans for point in plan.points})
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(sizes))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    percent_axis(axis)
    axis.set_xlabel("replicas")
    axis.set_title("all requests" if name == ALL else name)
