"""Which class keeps how many of its promises, each way that was looked at? Bars, class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workloads.report.figure_style import (
    INK,
    Plot,
    finish,
    legend_columns,
    new_figure,
    percent_axis,
    styled,
)
from workloads.results.intervals import Interval

_COLOURS = ("#222222", "#8a8a8a", "#D55E00", "#0072B2")


def class_bars(
    classes: Sequence[str], series: Mapping[str, Sequence[Interval | None]], caption: str
) -> Plot:
    """series: by its label, one interval for each class; None = there is none of it."""
    with styled():
        figure = new_figure(3.6)
        axis = figure.subplots()
        width = 0.8 / len(series)
        for row, (label, values) in enumerate(series.items()):
            at = [n + (row - (len(series) - 1) / 2) * width for n in range(len(classes))]
            shown = [(x, value) for x, value in zip(at, values, strict=True) if value is not None]
            axis.bar(
                [x for x, _ in shown],
                [value.mean for _, value in shown],
                width * 0.92,
                color=_COLOURS[row % len(_COLOURS)],
                label=label,
                yerr=[
                    [max(value.mean - value.low, 0.0) for _, value in shown],
                    [max(value.high - value.mean, 0.0) for _, value in shown],
                ],
                error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
            )
        axis.set_xticks(range(len(classes)), classes, rotation=20 if len(classes) > 4 else 0)
        axis.grid(visible=False, axis="x")
        axis.set_ylabel("share of requests that are good")
        percent_axis(axis)
        figure.legend(loc="outside lower center", ncols=legend_columns(len(series), 4))
        return finish(figure, "classes", caption)
