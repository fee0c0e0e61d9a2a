"""How are results handed over? Files on disk, the table on stdout, what went wrong on stderr."""

from __future__ import annotations

from scorpio.live.progress import say
from workloads.errors import NotAllAnswered
from workloads.report.findings import commonest_error
from workloads.report.html import write_results
from workloads.report.result_table import print_tables
from workloads.results.summary import Comparison


def publish(comparison: Comparison, command: str) -> None:
    """summary.json, report.html and PNGs on disk; the table on stdout."""
    page = write_results(comparison, command)
    print_tables(comparison.points())
    for run in comparison.runs:
        summary = run.summary
        if summary.unanswered:
            say(
                f"FAILED {summary.policy}: {summary.unanswered} of {summary.sent} requests; the"
                f" commonest error: {commonest_error([summary])}"
            )
        if summary.void:
            say(f"VOID {summary.policy}: {summary.void_reason}")
    say(f"report: {page}")


def require_answers(comparison: Comparison) -> None:
    """The last act of a command that sent requests: its exit code tells a script what the table
    tells people.

    Raises:
        NotAllAnswered: a request was neither served to the end nor refused, or a run is void.
    """
    summaries = [run.summary for run in comparison.runs]
    sent, failed = (sum(getattr(s, n) for s in summaries) for n in ("sent", "unanswered"))
    void = [summary for summary in summaries if summary.void]
    complaints = []
    if failed:
        complaints.append(f"{failed} of {sent} requests failed")
    if void:
        complaints.append(f"{len(void)} of {len(summaries)} runs void")
    if complaints:
        raise NotAllAnswered(f"{', '.join(complaints)}; the results are written all the same")
