"""Who was chosen instead of a request, and who was kept? A line of a decision log, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scorpio.ledger.decision import Decision, Other
from scorpio.ledger.entry import Verdict
from scorpio.ledger.sentences import explain
from scorpio.ledger.words import count, ms_text, tokens


def explain_decision(decision: Decision) -> list[str]:
    """Sentences, the most important fact first."""
    came = f"{decision.entry.arrived_unix_s:.3f} s into the run"
    return explain(decision.entry, came, _others(decision))


def _others(decision: Decision) -> Iterator[str]:
    entry = decision.entry
    refused = entry.verdict == Verdict.REFUSED.value
    if entry.started_ms is not None or refused:
        what = "was refused" if refused else "started"
        yield (
            f"When it {what}, {count(decision.running, 'request')} ran and"
            f" {count(decision.waiting, 'other')} waited"
            f" ({tokens(decision.waiting_tokens)} of prompt)."
        )
    if decision.started:
        later = f"{decision.overtaken_by:,}" if decision.overtaken_by else "None"
        unnamed = entry.starts - len(decision.started)
        before = f", after {count(unnamed, 'other')}" if unnamed else ""
        yield (
            f"Chosen before it: {_named(decision.started, entry.slo_first_ms)}{before}."
            f" {later} of all {entry.starts:,} had come after it."
        )
    if decision.kept:
        more = decision.waiting - len(decision.kept)
        rest = f", and {count(more, 'other')}" if more else ""
        yield f"Kept waiting instead: {_named(decision.kept, entry.slo_first_ms)}{rest}."


def _named(others: Sequence[Other], due_ms: float) -> str:
    return ", ".join(f"request {other.index} ({_about(other, due_ms)})" for other in others)


def _about(other: Other, due_ms: float) -> str:
    label = f"{other.slo_class}, " if other.slo_class else ""
    return f"{label}{tokens(other.prompt_tokens)} of prompt, {_due(other, due_ms)}"


def _due(other: Other, due_ms: float) -> str:
    if other.due_ms is None:
        return "no SLO"
    if due_ms == float("inf"):
        return "due, as this one was not"
    apart_ms = other.due_ms - due_ms
    if abs(apart_ms) < 0.5:
        return "due when it was"
    return f"due {ms_text(abs(apart_ms))} {'after' if apart_ms > 0.0 else 'before'} it"
