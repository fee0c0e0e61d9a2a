"""What came out, on one screen? The comparison as a table: load by load, policy by policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workloads.report.findings import attained, load_text
from workloads.results.aggregate import LoadPoint, Scenario
from workloads.results.fairness import Fairness, Group
from workloads.results.intervals import Interval
from workloads.results.policy_order import BASELINE, TUNED

NONE = "–"
HEADINGS = {
    "policy": "policy",
    "attainment": "good %",
    "interval": "95 % interval",
    "worst_class": "worst class %",
    "worst_tenant": "worst tenant %",
    "jain": "Jain index over tenants",
    "tries": "tries",
    "last_try": "good % in last try",
    "gain": f"points over {BASELINE} [95 %]",
    "goodput": "good req/s",
    "ratio": f"× {BASELINE}",
    "ratio_tuned": f"× {TUNED}",
    "rejected": "rejected %",
    "failed": "failed %",
    "bound": "% of ceiling",
}
# for 80 characters, with the longest policy name, all but _WIDE fit
_SHORT = {
    "attainment": "good\n%",
    "interval": "95 %\ninterval",
    "goodput": "good\nreq/s",
    "ratio": f"×\n{BASELINE}",
    "ratio_tuned": "× fcfs\n-tuned",
    "rejected": "rej.\n%",
    "failed": "failed\n%",
    "bound": "% of\nceiling",
}
_ALWAYS = ("policy", "attainment", "interval", "goodput", "rejected")
_WIDE = ("gain",)
# In a table of their own on a screen; beside the others in the report.
_ALIKE = ("worst_class", "worst_tenant", "jain", "tries", "last_try")
_WIDE_CONSOLE = 110


def row_cells(point: LoadPoint) -> dict[str, str]:
    """The texts of one row, by column; used by the terminal table and by the HTML report."""
    void = f" ({point.void_runs} void)" if point.void_runs else ""
    return {
        "policy": point.policy + void,
        "attainment": share_text(None if point.attainment is None else point.attainment.mean),
        "interval": _percent_range(point.attainment),
        **_alike_cells(point),
        "gain": points_text(point.gain),
        "goodput": NONE if point.goodput_rps is None else f"{point.goodput_rps.mean:.2f}",
        "ratio": ratio_text(point.ratios.get(BASELINE)),
        "ratio_tuned": ratio_text(point.ratios.get(TUNED)),
        "rejected": share_text(point.rejected_share),
        "failed": share_text(point.failed_share or None),  # no column where all were answered
        "bound": share_text(point.of_bound),
    }


def shown_columns(points: Iterable[LoadPoint]) -> list[str]:
    """Columns that hold something for at least one point."""
    rows = [row_cells(point) for point in points]
    return [name for name in HEADINGS if name in _ALWAYS or any(r[name] != NONE for r in rows)]


def result_table(scenario: Scenario, points: Iterable[LoadPoint], *, wide: bool = False) -> Table:
    """One scenario: a block per load, a row per policy; the best attainment stands out."""
    points = [point for point in points if point.scenario == scenario]
    out = _ALIKE if wide else (*_ALIKE, *_WIDE)
    columns = [name for name in shown_columns(points) if name not in out]
    title = Text(scenario_title(scenario), style="bold")
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in columns:
        justify: Literal["left", "right"] = "left" if name == "policy" else "right"
        heading = HEADINGS[name] if wide else _SHORT.get(name, HEADINGS[name])
        table.add_column(heading, justify=justify, no_wrap=not wide)
    for load in blocks(points):
        table.add_row(Text(f"at {load_text(load[0])}", style="italic"))
        best = best_of(load)
        for point in load:
            cells = row_cells(point)
            cells["policy"] = f" {cells['policy']}"
            style = "bold" if point is best else ""
            table.add_row(*(Text(cells[name]) for name in columns), style=style)
        table.add_row("")
    return table


def alike_table(points: Iterable[LoadPoint]) -> Table | None:
    """Are all served alike, and what do clients that retry get? None where all of it is open."""
    points = list(points)
    columns = [name for name in shown_columns(points) if name in _ALIKE]
    if not columns:
        return None
    table = Table(title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("load")
    table.add_column("policy", no_wrap=True)
    for name in columns:
        table.add_column(HEADINGS[name], justify="right")
    for point in points:
        cells = row_cells(point)
        texts = (f"x{point.rate_scale:g}", point.policy, *(cells[name] for name in columns))
        table.add_row(*(Text(text) for text in texts))
    return table


def print_tables(points: Iterable[LoadPoint], console: Console | None = None) -> None:
    """Print every scenario's tables on stdout."""
    console = console or Console()
    points = list(points)
    for scenario in sorted({point.scenario for point in points}):
        console.print(result_table(scenario, points, wide=console.width >= _WIDE_CONSOLE))
        alike = alike_table(point for point in points if point.scenario == scenario)
        if alike is not None:
            console.print(alike)
            console.print()


def scenario_title(scenario: Scenario) -> str:
    """One line saying what was compared."""
    return f"{scenario.trace}, mix {scenario.mix}, {scenario.gpu} ({scenario.engine})"


def blocks(points: Iterable[LoadPoint]) -> list[list[LoadPoint]]:
    """The points of each load, loads ascending."""
    loads: dict[float, list[LoadPoint]] = {}
    for point in points:
        loads.setdefault(point.rate_scale, []).append(point)
    return [loads[rate] for rate in sorted(loads)]


def best_of(points: Iterable[LoadPoint]) -> LoadPoint | None:
    """The point with the highest attainment; None when all its runs are void."""
    return max((p for p in points if p.attainment is not None), key=attained, default=None)


def _alike_cells(point: LoadPoint) -> dict[str, str]:
    fair = point.fairness or Fairness()
    records = [record for run in point.runs for record in run.records]
    tries = sum(record.tries for record in records)
    again = tries > len(records)
    last = sum(record.good_in_last_try for record in records) / len(records) if again else None
    return {
        "worst_class": _group_text(fair.worst_class),
        "worst_tenant": _group_text(fair.worst_tenant),
        "jain": NONE if fair.jain is None else f"{fair.jain:.2f}",
        "tries": f"{tries / len(records):.2f}" if again else NONE,
        "last_try": share_text(last),
    }


def _group_text(group: Group | None) -> str:
    return NONE if group is None else f"{share_text(group.attainment)} {group.name}"


def _percent_range(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    return f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def points_text(interval: Interval | None) -> str:
    """A difference of two shares, `+14.0 [+12.1, +16.2]`."""
    if interval is None:
        return NONE
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def ratio_text(ratio: float | None) -> str:
    """A ratio without false precision."""
    if ratio is None:
        return NONE
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def share_text(share: float | None) -> str:
    """A share as percent without its sign."""
    return NONE if share is None else f"{100 * share:.1f}"
