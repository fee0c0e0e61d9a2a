"""What did a request see that was not refused? How long it waited, its first token, its gaps, its
end; and where one of them was late, why?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from scorpio.core.slo import OnMiss
from scorpio.ledger.entry import Entry, Verdict
from scorpio.ledger.words import count, first_due, ms_text, tokens

_AT_ONCE_MS = 1.0
_ONE_LONG_GAP = 4.0  # mean gaps


def service(entry: Entry) -> Iterator[str]:
    """In the order in which it happened."""
    if entry.started_ms is None:
        yield _never_started(entry)
        return
    yield _waited(entry, entry.started_ms)
    if entry.verdict == Verdict.DEGRADED.value:
        yield _degraded(entry)
    if entry.forecast_ttft_ms is not None:
        then = ""
        if entry.forecast_tpot_ms is not None:
            then = f", then a token every {ms_text(entry.forecast_tpot_ms)}"
        yield f"Its first token was predicted after {ms_text(entry.forecast_ttft_ms)}{then}."
    if entry.cached_tokens:
        yield f"Of its prompt {tokens(entry.cached_tokens)} were in the prefix cache."
    if entry.first_token_ms is not None:
        yield _first_token(entry, entry.first_token_ms, entry.started_ms)
    yield from _further_tokens(entry)
    yield _end(entry)


def _never_started(entry: Entry) -> str:
    after = ms_text(entry.ended_ms)
    if entry.outcome == "aborted":
        return f"Its client left after {after}, before it started."
    return f"It {entry.outcome} after {after}, before it started."


def _waited(entry: Entry, started_ms: float) -> str:
    if started_ms < _AT_ONCE_MS:
        return "It started at once."
    told = f"It waited {ms_text(started_ms)} before it started"
    if entry.starts:
        others = count(entry.starts, "other request")
        return f"{told}: {others} started first, in {_work(entry)}."
    if entry.steps:
        return f"{told}: {_work(entry)} served those that ran, and left no room for it."
    return f"{told}: for the end of the step that was being computed."


def _work(entry: Entry) -> str:
    return f"{count(entry.steps, 'step')} with {tokens(entry.step_tokens)}"


def _degraded(entry: Entry) -> str:
    wish = {
        OnMiss.WAIT.value: "it was to wait all the same",
        OnMiss.DEGRADE.value: "it was to be served all the same, behind those still in time",
    }.get(entry.on_miss, "it was served all the same")
    return f"By then its first token could not come in time, {first_due(entry)}: {wish}."


def _first_token(entry: Entry, first_ms: float, started_ms: float) -> str:
    spent = f"{ms_text(max(first_ms - started_ms, 0.0))} after its start"
    told = f"Its first token came after {ms_text(first_ms)}, {spent}"
    due_ms = entry.slo_first_ms
    if math.isinf(due_ms):
        return f"{told}."
    apart = ms_text(abs(due_ms - first_ms))
    if first_ms <= due_ms:
        return f"{told}: {apart} to spare."
    waited = started_ms >= first_ms - started_ms
    return f"{told}: {apart} late, most of it {'waiting' if waited else 'computing its prompt'}."


def _further_tokens(entry: Entry) -> Iterator[str]:
    if entry.mean_gap_ms is not None and entry.worst_gap_ms is not None:
        asked = "" if entry.slo_tpot_ms is None else f" (asked: {ms_text(entry.slo_tpot_ms)})"
        yield (
            f"It got {tokens(entry.output_tokens)}, one every {ms_text(entry.mean_gap_ms)} on"
            f" average{asked}; the longest gap was {ms_text(entry.worst_gap_ms)}."
        )
    if entry.preemptions:
        times = count(entry.preemptions, "time")
        yield f"It was preempted {times}: its KV was taken away and computed again."


def _end(entry: Entry) -> str:
    after = ms_text(entry.ended_ms)
    if entry.outcome == "aborted":
        return f"Its client left after {after}."
    if entry.outcome != "finished":
        return f"It {entry.outcome} after {after} ({entry.finish_reason})."
    done = f"It ended after {after} ({entry.finish_reason})"
    if "tpot" not in entry.missed:
        return f"{done}."
    mean_ms, worst_ms = entry.mean_gap_ms or 0.0, entry.worst_gap_ms or 0.0
    if entry.preemptions:
        why = "preemption took time from its tokens"
    elif worst_ms > _ONE_LONG_GAP * mean_ms:
        why = "one gap was much longer than the others: a step that was long, or that it sat out"
    else:
        why = "steps were longer than its TPOT SLO: the batch was too large or the engine slow"
    return f"{done}. Its TPOT was missed: {why}."
