"""What happened over time? Arrivals, queue, running batch, KV memory and rejections of one run.

With samples from the engine they are shown; without, queue and batch are what the client could
see: sent but without a first token, and between first token and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.report.figure_style import (
    QUIET,
    Plot,
    finish,
    line_options,
    new_figure,
    policy_legend,
    styled,
)
from workloads.results.aggregate import LoadPoint, Run
from workloads.results.policy_order import BASELINE, SUBJECT, TUNED
from workloads.results.records import Outcome, RequestRecord

MAX_POLICIES = 4
_GRID_POINTS = 400
Series = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
_PANELS = {
    "waiting": "waiting\nrequests",
    "running": "running\nrequests",
    "kv_used_fraction": "KV memory\nused (%)",
    "rejected_total": "rejected\nso far",
}


def timeline_plot(points: Sequence[LoadPoint], load_text: str) -> Plot | None:
    """One column of panels over time, for at most four policies; None when no run is valid."""
    chosen = {point.policy: point.runs[0] for point in _telling(points) if point.runs}
    if not chosen:
        return None
    series = {policy: _series(run) for policy, run in chosen.items()}
    panels = [name for name in _PANELS if any(name in lines for lines in series.values())]
    first = next(iter(chosen.values()))
    arrivals = [record.scheduled_send_s for record in first.records]
    with styled():
        figure = new_figure(1.2 + 1.25 * (len(panels) + 1))
        axes = figure.subplots(len(panels) + 1, 1, sharex=True, squeeze=False)[:, 0]
        _arrivals(axes[0], arrivals)
        for axis, name in zip(axes[1:], panels, strict=True):
            for policy, lines in series.items():
                if name in lines:
                    axis.plot(*lines[name], **(line_options(policy) | {"linewidth": 1.5}))
            axis.set_ylabel(_PANELS[name])
        if "kv_used_fraction" in panels:
            axes[1 + panels.index("kv_used_fraction")].set_ylim(-3.0, 103.0)
        for axis in axes:
            axis.axvline(max(arrivals), color=QUIET, linewidth=1, linestyle=":")
        axes[-1].set_xlabel("time since the start of the run (s)")
        last_s = max(time_s[-1] for lines in series.values() for time_s, _ in lines.values())
        axes[0].set_xlim(min(arrivals), 1.01 * max(last_s, *arrivals))
        axes[0].set_title(f"Over time, at {load_text}")
        figure.align_ylabels(list(axes))
        policy_legend(figure, chosen, below=True, markers=False)
        return finish(figure, "timeline", _caption(first, load_text))


def _caption(run: Run, load_text: str) -> str:
    source = (
        "as sampled in the engine"
        if run.timeline
        else "as seen by the client (waiting = no first token yet)"
    )
    return (
        f"One run over time (seed {run.summary.seed}) at {load_text}: what arrived, and {source},"
        " how many requests waited, how many were being served, and how many had been rejected."
        " The dotted line is the last arrival; what is still open then only drains."
    )


def _telling(points: Sequence[LoadPoint]) -> list[LoadPoint]:
    """The stock engine, its tuned form, the subject and its best rival."""
    by_name = {point.policy: point for point in points}
    ranked = sorted(
        (p for p in points if p.attainment is not None),
        key=lambda p: p.attainment.mean if p.attainment is not None else 0.0,
        reverse=True,
    )
    names = [n for n in (BASELINE, TUNED, SUBJECT) if n in by_name]
    names += [point.policy for point in ranked if point.policy not in names]
    keep = set(names[:MAX_POLICIES])
    return [point for point in points if point.policy in keep]


def _arrivals(axis: Any, arrivals: Sequence[float]) -> None:
    window_s = max(arrivals) - min(arrivals)
    bin_s = max(1.0, window_s / 120)
    edges = np.arange(min(arrivals), max(arrivals) + 2 * bin_s, bin_s)
    counts, _ = np.histogram(arrivals, edges)
    axis.stairs(counts / bin_s, edges, fill=True, color="#b9c7d6")
    axis.set_ylabel("arrivals\nper second")


def _series(run: Run) -> Series:
    if not run.timeline:
        return _seen_by_client(run.records)
    time_s = np.array([sample["t_s"] for sample in run.timeline])
    columns = {
        "waiting": np.array([float(sample["waiting"]) for sample in run.timeline]),
        "running": np.array([float(sample["running"]) for sample in run.timeline]),
        "kv_used_fraction": np.array([100.0 * s["kv_used_fraction"] for s in run.timeline]),
        "rejected_total": np.array([float(sample["rejected_total"]) for sample in run.timeline]),
    }
    keep = np.unique(np.linspace(0, len(time_s) - 1, 2 * _GRID_POINTS).astype(np.int64))
    return {name: (time_s[keep], values[keep]) for name, values in columns.items()}


def _seen_by_client(records: Sequence[RequestRecord]) -> Series:
    sent = [record.send_s for record in records]
    ends = [record.end_s for record in records]
    grid = np.linspace(min(sent), max(*ends, *sent), _GRID_POINTS)
    served = [r.first_token_s for r in records if r.first_token_s is not None]
    served_ends = [e for r, e in zip(records, ends, strict=True) if r.first_token_s is not None]
    unserved_ends = [e for r, e in zip(records, ends, strict=True) if r.first_token_s is None]
    refused = [end for r, end in zip(records, ends, strict=True) if r.outcome is Outcome.REJECTED]
    running = _count(served, grid) - _count(served_ends, grid)
    waiting = _count(sent, grid) - _count(served, grid) - _count(unserved_ends, grid)
    return {
        "waiting": (grid, waiting),
        "running": (grid, running),
        "rejected_total": (grid, _count(refused, grid)),
    }


def _count(times_s: Iterable[float], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of the times are at or before each grid point."""
    ordered = np.sort(np.fromiter(times_s, dtype=np.float64))
    return np.searchsorted(ordered, grid, side="right").astype(np.float64)
