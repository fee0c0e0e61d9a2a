"""How does attainment grow with the number of replicas? One line per policy, the target across."""

from __future__ import annotations

from collections.abc import Sequence

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


def replicas_plot(plans: Sequence[FleetCurve], target: float, where: str) -> Plot:
    """Attainment against replicas; a ring marks the smallest sufficient fleet of each policy."""
    ordered = sorted(plans, key=lambda plan: policy_order(plan.policy))
    sizes = sorted({point.replicas for plan in ordered for point in plan.points})
    with styled():
        figure = new_figure(4.8)
        axis = figure.subplots()
        for plan in ordered:
            means = [point.attainment.mean for point in plan.points]
            below = [max(0.0, p.attainment.mean - p.attainment.low) for p in plan.points]
            above = [max(0.0, p.attainment.high - p.attainment.mean) for p in plan.points]
            axis.errorbar(
                [point.replicas for point in plan.points],
                means,
                yerr=[below, above],
                marker=policy_style(plan.policy).marker,
                markersize=5,
                capsize=2.5,
                elinewidth=1,
                **line_options(plan.policy),
            )
            if plan.needed is not None:
                axis.plot(
                    plan.needed.replicas,
                    plan.needed.attainment.mean,
                    marker="o",
                    markersize=13,
                    fillstyle="none",
                    color=policy_style(plan.policy).colour,
                    zorder=6,
                )
        axis.axhline(target, color=SLO_INK, linewidth=1.2, linestyle=(0, (4, 2)))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        percent_axis(axis)
        axis.set_title(f"Replicas needed for {100 * target:g} % attainment\n{where}")
        axis.set_xlabel("replicas (requests dealt round robin)")
        axis.set_ylabel("share of all requests sent")
        extra = [
            Line2D([], [], label="target", color=SLO_INK, linestyle=(0, (4, 2))),
            Line2D([], [], label="smallest fleet", marker="o", markersize=11, fillstyle="none",
                   color=INK, linestyle="none"),
        ]  # fmt: skip
        policy_legend(figure, [plan.policy for plan in ordered], extra)
        return finish(figure, "plan", f"Attainment against the number of replicas: {where}.")
