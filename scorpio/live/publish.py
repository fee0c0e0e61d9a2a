"""How are results handed over? Files on disk, the table on stdout, what is void on stderr."""

from __future__ import annotations

from scorpio.live.progress import say
from workloads.report import write_report
from workloads.result_table import print_tables
from workloads.summary import Comparison


def publish(comparison: Comparison, command: str) -> None:
    """summary.json, report.html and PNGs on disk; the table on stdout."""
    comparison.write()
    page = write_report(comparison, command=command)
    print_tables(comparison.points())
    for run in comparison.runs:
        if run.summary.void:
            say(f"VOID {run.summary.policy}: {run.summary.void_reason}")
    say(f"report: {page}")
