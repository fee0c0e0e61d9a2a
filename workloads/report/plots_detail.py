"""Which policy won at one load, and with which class? Outcomes per policy, attainment per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from workloads.report.figure_style import (
    Plot,
    finish,
    legend_columns,
    new_figure,
    percent_axis,
    styled,
)
from workloads.report.plots_latency import largest_classes
from workloads.results.aggregate import LoadPoint
from workloads.results.intervals import mean_interval
from workloads.results.policy_order import policy_style
from workloads.results.records import Miss, Outcome, RequestRecord

_TOO_NARROW = 0.045  # a segment below this share gets no number
# fate: (label, colour, colour of the number)
_FATES: dict[str, tuple[str, str, str]] = {
    "good": ("served within promise", "#2a8f5b", "white"),
    Miss.TTFT: ("first token late", "#f2b134", "#222222"),
    Miss.TPOT: ("tokens too slow", "#c46bb0", "white"),
    Miss.BOTH: ("both late", "#8c3b7a", "white"),
    Miss.E2E: ("end too late", "#5b7fb5", "white"),
    Outcome.REJECTED: ("rejected at once", "#cfcfcf", "#222222"),
    Outcome.FAILED: ("failed or timed out", "#222222", "white"),
}


def fate(record: RequestRecord) -> str:
    """Which of the fates of `_FATES` this request had."""
    if record.good:
        return "good"
    if record.outcome is Outcome.FINISHED:
        return str(record.miss)
    return Outcome.REJECTED if record.outcome is Outcome.REJECTED else Outcome.FAILED


def outcome_plot(points: Sequence[LoadPoint], load_text: str) -> Plot:
    """What became of every request: one bar per policy that adds up to 100 %."""
    shares = {point.policy: _shares(point) for point in points}
    used = [name for name in _FATES if any(share.get(name) for share in shares.values())]
    with styled():
        figure = new_figure(1.5 + 0.38 * len(shares))
        axis = figure.subplots()
        for row, policy in enumerate(shares):
            _bar(axis, row, shares[policy], used)
        axis.set_yticks(range(len(shares)), list(shares))
        axis.set_ylim(len(shares) - 0.45, -0.55)
        axis.set_xlim(0.0, 1.0)
        axis.set_xticks(np.linspace(0, 1, 6), [f"{p} %" for p in range(0, 101, 20)])
        axis.set_xlabel("share of all requests sent")
        axis.grid(axis="y", visible=False)
        axis.set_title(f"What became of the requests at {load_text}")
        handles = [Patch(color=_FATES[name][1], label=_FATES[name][0]) for name in used]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=legend_columns(len(used), 3)
        )
        return finish(
            figure,
            "outcomes",
            f"What became of every request at {load_text}. Green was served as promised; yellow and"
            " purple were served, but too late to keep the promise; grey was told at once to come"
            " back later.",
        )


def _shares(point: LoadPoint) -> dict[str, float]:
    """Mean over runs, so that every run weighs the same."""
    shares = dict.fromkeys(_FATES, 0.0)
    for run in point.runs:
        for name, count in Counter(fate(record) for record in run.records).items():
            shares[name] += count / len(run.records) / len(point.runs)
    return shares


def _bar(axis: Any, row: int, shares: dict[str, float], used: Sequence[str]) -> None:
    left = 0.0
    for name in used:
        width = shares.get(name, 0.0)
        _, colour, ink = _FATES[name]
        axis.barh(row, width, left=left, height=0.72, color=colour, edgecolor="white", lw=0.6)
        if width >= _TOO_NARROW:
            middle = left + width / 2
            axis.text(middle, row, f"{100 * width:.0f}", ha="center", va="center", color=ink,
                      fontsize=9)  # fmt: skip
        left += width


def class_plot(points: Sequence[LoadPoint], load_text: str) -> Plot:
    """Attainment of every SLO class, grouped bars, one colour per policy."""
    classes = largest_classes(points)
    with styled():
        figure = new_figure(4.4)
        axis = figure.subplots()
        width = 0.84 / max(1, len(points))
        for place, point in enumerate(points):
            intervals = [mean_interval(_class_flags(point, name)) for name in classes]
            means = np.array([interval.mean for interval in intervals])
            spread = np.array(
                [
                    means - [interval.low for interval in intervals],
                    [interval.high for interval in intervals] - means,
                ]
            )
            x = np.arange(len(classes)) - 0.42 + (place + 0.5) * width
            axis.bar(
                x, means, width * 0.92, color=policy_style(point.policy).colour,
                yerr=np.maximum(spread, 0.0).tolist(), ecolor="#555555",
                error_kw={"elinewidth": 0.9, "capsize": 1.5},
            )  # fmt: skip
        axis.set_xticks(range(len(classes)), [_class_label(points, name) for name in classes])
        axis.set_xlim(-0.6, len(classes) - 0.4)
        axis.grid(axis="x", visible=False)
        axis.set_ylabel("share of the class")
        axis.set_title(f"Served within promise, by class, at {load_text}")
        percent_axis(axis)
        handles = [Patch(color=policy_style(p.policy).colour, label=p.policy) for p in points]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=legend_columns(len(points), 4)
        )
        return finish(
            figure,
            "classes",
            f"Attainment of each promise class at {load_text}, with 95 % intervals. Unequal bars of"
            " one colour mean that the policy favours some classes.",
        )


def _class_flags(point: LoadPoint, slo_class: str) -> list[list[float]]:
    flags = [[float(r.good) for r in run.records if r.slo_class == slo_class] for run in point.runs]
    return [run for run in flags if run] or [[0.0]]


def _class_label(points: Sequence[LoadPoint], slo_class: str) -> str:
    summary = next(
        run.summary.by_class[slo_class]
        for point in points
        for run in point.runs
        if slo_class in run.summary.by_class
    )
    parts = [] if summary.ttft_slo_ms is None else [f"TTFT {summary.ttft_slo_ms / 1000:g} s"]
    if summary.tpot_slo_ms is not None:
        parts.append(f"TPOT {summary.tpot_slo_ms:g} ms")
    return "\n".join([slo_class, *parts])
