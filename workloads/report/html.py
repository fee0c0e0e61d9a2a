"""What does a comparison mean? report.html: one file, no network, readable by a manager.

DIR/report.html holds everything (figures as vector images); the same figures are beside it as
PNG files. With several scenarios in one folder the PNG names carry a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from scorpio.files import write_atomic
from workloads.report.figure_style import Plot, narrow
from workloads.report.findings import findings, focus_rate, load_text, reservations
from workloads.report.page_parts import (
    care_html,
    figure_html,
    findings_html,
    row_html,
    whole_page,
)
from workloads.report.plots_detail import class_plot, outcome_plot
from workloads.report.plots_forecast import forecast_plots
from workloads.report.plots_latency import latency_plot
from workloads.report.plots_load import attainment_plot, goodput_plot
from workloads.report.plots_timeline import timeline_plot
from workloads.report.result_table import (
    HEADINGS,
    NONE,
    best_of,
    blocks,
    row_cells,
    scenario_title,
    shown_columns,
)
from workloads.results.aggregate import LoadPoint, Scenario
from workloads.results.results_csv import results_csv
from workloads.results.run_summary import ClassSummary
from workloads.results.summary import Comparison

_TERMS = {
    "Promise (SLO)": "what a request asked for: its first token within a time (TTFT), and further "
    "tokens at a rate (TPOT).",
    "TTFT": "time to first token: from the client's send to the arrival of the first token.",
    "TPOT": "time per output token after the first: (last token - first token) / (tokens - 1). A "
    "one-token answer has none; then only TTFT counts.",
    "Good": "finished, and every promise kept. Rejected, failed and timed-out requests are not.",
    "Attainment": "good requests / all requests sent.",
    "Goodput": "good requests per second of the arrival window (first to last arrival); the time "
    "needed to drain does not count.",
    "[low, high]": "95 % bootstrap interval over runs and over blocks of neighbouring requests.",
    "Worst class, worst tenant": "the one with the lowest attainment, of those with 20 requests or"
    " more.",
    "Jain index": "of the tenants' attainment: 1 when all are served alike, 1/n when one of n is.",
    "Try": "one sending of a request by a client that sends it again when it is refused. A request"
    " counts once, and its promises from its first try; `in last try` counts from the last.",
    "Failed": "neither served to the end nor refused: an HTTP error, an error in the stream, a "
    "stream that was cut, or no end in time.",
    "Void": "a live run whose own client was more than 10 ms late (p99), ran out of descriptors or "
    "could not resolve the server's name: it says nothing about the server and is left out.",
}


def write_results(comparison: Comparison, command: str | None = None) -> Path:
    """summary.json, results.csv, then report.html and its PNGs; returns the page."""
    comparison.write()
    write_atomic(comparison.out_dir / "results.csv", results_csv(comparison.points()))
    return write_report(comparison, command=command)


def write_report(comparison: Comparison, *, command: str | None = None) -> Path:
    """Write DIR/report.html and the PNGs. Returns the path of the page.

    Args:
        command: the command line that made the comparison, shown at the end.

    Raises:
        ValueError: the comparison holds no run.
    """
    points = comparison.points()
    scenarios = sorted({point.scenario for point in points})
    if not scenarios:
        raise ValueError("a report needs at least one run")
    sections = []
    for number, scenario in enumerate(scenarios, start=1):
        mine = [point for point in points if point.scenario == scenario]
        plots = scenario_plots(mine)
        with narrow():
            small = {plot.name: plot for plot in scenario_plots(mine)}
        prefix = f"{number}_" if len(scenarios) > 1 else ""
        for plot in plots:
            write_atomic(comparison.out_dir / f"{prefix}{plot.name}.png", plot.png)
        sections.append(_scenario_html(scenario, mine, plots, small))
    if comparison.failures:
        sections.append(_failures_html(comparison))
    path = comparison.out_dir / "report.html"
    write_atomic(
        path,
        whole_page(
            "Scorpio: are promises kept?",
            "Which scheduling policy keeps its latency promises?",
            sections,
            _TERMS,
            command,
        ),
    )
    return path


def scenario_plots(points: Sequence[LoadPoint]) -> list[Plot]:
    """All figures of one scenario; those about one load show the most telling one."""
    if not any(point.attainment is not None for point in points):
        return []  # every run was void
    rate = focus_rate(points)
    at_focus = [p for p in points if p.rate_scale == rate and p.runs]
    text = load_text(at_focus[0])
    plots = [
        attainment_plot(points),
        goodput_plot(points),
        outcome_plot(at_focus, text),
        class_plot(at_focus, text),
        latency_plot(at_focus, text),
        *forecast_plots(at_focus, text),
    ]
    timeline = timeline_plot(at_focus, text)
    return plots if timeline is None else [*plots, timeline]


def _scenario_html(
    scenario: Scenario,
    points: Sequence[LoadPoint],
    plots: Sequence[Plot],
    small: Mapping[str, Plot],
) -> str:
    care = reservations(points)
    parts = [
        f'<p class="sub">{escape(scenario_title(scenario))}</p>',
        findings_html(findings(points)),
    ]
    by_name = {plot.name: plot for plot in plots}

    def figures(*names: str) -> list[str]:
        return [figure_html(by_name[n], small[n]) for n in names if n in by_name]

    parts += figures("attainment", "goodput")
    parts += ["<h2>The numbers</h2>", _main_table(points)]
    parts.append(care_html("Read with care", care))
    if "outcomes" in by_name:
        where = load_text(next(p for p in points if p.rate_scale == focus_rate(points)))
        parts.append(f"<h2>A closer look at {escape(where)}</h2>")
    parts += figures("outcomes", "classes", "latency_cdf", "timeline")
    parts.append(_class_table(points))
    if told := figures("reliability", "pit"):
        parts.append(
            "<details><summary>How good were the policies' own forecasts?</summary>"
            f"{''.join(told)}</details>"
        )
    return "".join(parts)


def _failures_html(comparison: Comparison) -> str:
    told = [
        f"{key.policy} at ×{key.load.rate_scale:g}, seed {key.load.seed}: {error}"
        for key, error in comparison.failures
    ]
    return care_html("Runs that failed, and are not in any number", told)


def _main_table(points: Sequence[LoadPoint]) -> str:
    columns = shown_columns(points)
    left = ("policy",)
    rows = [row_html([HEADINGS[name] for name in columns], columns, left, tag="th")]
    for load in blocks(points):
        where = escape(load_text(load[0]))
        rows.append(f'<tr class="load"><td class="left" colspan="{len(columns)}">{where}</td></tr>')
        best = best_of(load)
        for point in load:
            cells = row_cells(point)
            marks = ["best"] if point is best else []
            rows.append(row_html([cells[name] for name in columns], columns, left, marks))
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


_CLASS_COLUMNS = (
    "load", "policy", "class", "sent", "good %", "rejected %", "failed %", "late %",
    "TTFT ms p50", "p90", "p99", "TPOT ms p50", "p90", "p99",
)  # fmt: skip


def _class_table(points: Sequence[LoadPoint]) -> str:
    """Latency percentiles per class; of the first valid run of each point."""
    left = ("load", "policy", "class")
    rows = [row_html(_CLASS_COLUMNS, _CLASS_COLUMNS, left, tag="th")]
    for point in points:
        for run in point.runs[:1]:
            for name, entry in run.summary.by_class.items():
                latencies = [*entry.ttft_ms.values(), *entry.tpot_ms.values()]
                cells = [
                    f"×{point.rate_scale:g}",
                    point.policy,
                    name,
                    str(entry.sent),
                    f"{100 * entry.attainment:.1f}",
                    f"{100 * entry.rejected / entry.sent:.1f}",
                    f"{100 * entry.failed / entry.sent:.1f}",
                    f"{100 * _late(entry) / entry.sent:.1f}",
                    *(NONE if value is None else f"{value:,.0f}" for value in latencies),
                ]
                rows.append(row_html(cells, _CLASS_COLUMNS, left))
    return (
        "<details><summary>Every class, load and policy: counts and latency percentiles"
        " (first run of each)</summary>"
        f'<div class="scroll"><table>{"".join(rows)}</table></div></details>'
    )


def _late(entry: ClassSummary) -> int:
    """Let in and served, but not as promised: the false admits."""
    return entry.sent - entry.good - entry.rejected - entry.failed
