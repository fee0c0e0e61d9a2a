"""What does a comparison mean? report.html: one file, no network, readable by a manager.

DIR/report.html holds everything (figures as vector images); the same figures are beside it as
PNG files. With several scenarios in one folder the PNG names carry a number.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from scorpio.files import write_atomic
from workloads.report.figure_style import Plot
from workloads.report.findings import findings, focus_rate, load_text, reservations
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

_CSS = """
:root{--ink:#222;--quiet:#666;--line:#ddd;--tint:#f6f7f9;--mark:#d55e00}
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
color:var(--ink);background:#fff;max-width:1080px;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .3rem}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
.sub{color:var(--quiet);margin:0 0 1.4rem}
ul.findings{background:var(--tint);border-left:4px solid var(--mark);margin:0;
padding:.9rem 1.2rem .9rem 2.2rem}
ul.findings li{margin:.25rem 0}
ul.care{color:#7a3b00;padding-left:1.2rem}
figure{margin:1.2rem 0}
figure img{width:100%;height:auto;box-sizing:border-box;padding:.7rem;
border:1px solid var(--line);border-radius:4px}
figcaption{color:var(--quiet);font-size:.92rem;margin-top:.35rem;max-width:62rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap}
th{border-bottom:2px solid var(--ink);vertical-align:bottom;white-space:normal}
td.left,th.left{text-align:left}
tr.load td{border-top:1px solid #999;padding-top:.7rem;font-style:italic;color:var(--quiet)}
tr.best td{font-weight:700;background:#fff4ec}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;font-size:.95rem}
dt{font-weight:600}dd{margin:0}
code{background:var(--tint);padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}
details{margin:.8rem 0}summary{cursor:pointer}
@media print{body{max-width:none;margin:0}figure,tr{break-inside:avoid}}
"""

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
        prefix = f"{number}_" if len(scenarios) > 1 else ""
        for plot in plots:
            write_atomic(comparison.out_dir / f"{prefix}{plot.name}.png", plot.png)
        sections.append(_scenario_html(scenario, mine, plots))
    if comparison.failures:
        sections.append(_failures_html(comparison))
    path = comparison.out_dir / "report.html"
    write_atomic(path, _page(sections, command))
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


def _page(sections: Sequence[str], command: str | None) -> str:
    terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _TERMS.items())
    made = f"<h2>How this was made</h2><p><code>{escape(command)}</code></p>" if command else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Scorpio: are promises kept?</title><style>{_CSS}</style></head><body>"
        "<h1>Which scheduling policy keeps its latency promises?</h1>"
        + "".join(sections)
        + f"<h2>Words used</h2><dl>{terms}</dl>{made}</body></html>\n"
    )


def _scenario_html(scenario: Scenario, points: Sequence[LoadPoint], plots: Sequence[Plot]) -> str:
    care = reservations(points)
    parts = [
        f'<p class="sub">{escape(scenario_title(scenario))}</p>',
        '<ul class="findings">',
        *(f"<li>{escape(text)}</li>" for text in findings(points)),
        "</ul>",
    ]
    by_name = {plot.name: plot for plot in plots}
    parts += [_figure_html(by_name[name]) for name in ("attainment", "goodput") if name in by_name]
    parts += ["<h2>The numbers</h2>", _main_table(points)]
    if care:
        items = "".join(f"<li>{escape(text)}</li>" for text in care)
        parts.append(f'<h2>Read with care</h2><ul class="care">{items}</ul>')
    if "outcomes" in by_name:
        where = load_text(next(p for p in points if p.rate_scale == focus_rate(points)))
        parts.append(f"<h2>A closer look at {escape(where)}</h2>")
    closer = ("outcomes", "classes", "latency_cdf", "timeline", "reliability", "pit")
    parts += [_figure_html(by_name[name]) for name in closer if name in by_name]
    parts.append(_class_table(points))
    return "".join(parts)


def _failures_html(comparison: Comparison) -> str:
    told = [
        f"{key.policy} at ×{key.load.rate_scale:g}, seed {key.load.seed}: {error}"
        for key, error in comparison.failures
    ]
    items = "".join(f"<li>{escape(text)}</li>" for text in told)
    return f'<h2>Runs that failed, and are not in any number</h2><ul class="care">{items}</ul>'


def _figure_html(plot: Plot) -> str:
    data = base64.b64encode(plot.svg).decode()
    caption = escape(plot.caption)
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _main_table(points: Sequence[LoadPoint]) -> str:
    columns = shown_columns(points)
    left = ("policy",)
    rows = [_row([HEADINGS[name] for name in columns], columns, left, tag="th")]
    for load in blocks(points):
        where = escape(load_text(load[0]))
        rows.append(f'<tr class="load"><td class="left" colspan="{len(columns)}">{where}</td></tr>')
        best = best_of(load)
        for point in load:
            cells = row_cells(point)
            marks = ["best"] if point is best else []
            rows.append(_row([cells[name] for name in columns], columns, left, marks))
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


_CLASS_COLUMNS = (
    "load", "policy", "class", "sent", "good %", "rejected %", "failed %", "late %",
    "TTFT ms p50", "p90", "p99", "TPOT ms p50", "p90", "p99",
)  # fmt: skip


def _class_table(points: Sequence[LoadPoint]) -> str:
    """Latency percentiles per class; of the first valid run of each point."""
    left = ("load", "policy", "class")
    rows = [_row(_CLASS_COLUMNS, _CLASS_COLUMNS, left, tag="th")]
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
                rows.append(_row(cells, _CLASS_COLUMNS, left))
    return (
        "<details><summary>Every class, load and policy: counts and latency percentiles"
        " (first run of each)</summary>"
        f'<div class="scroll"><table>{"".join(rows)}</table></div></details>'
    )


def _late(entry: ClassSummary) -> int:
    """Let in and served, but not as promised: the false admits."""
    return entry.sent - entry.good - entry.rejected - entry.failed


def _row(
    cells: Sequence[str],
    columns: Sequence[str],
    left: Sequence[str],
    marks: Sequence[str] = (),
    tag: str = "td",
) -> str:
    inner = "".join(
        f"<{tag}{' class=left' if name in left else ''}>{escape(text)}</{tag}>"
        for name, text in zip(columns, cells, strict=True)
    )
    return f'<tr class="{" ".join(marks)}">{inner}</tr>'
