"""Why did a request wait, why was it refused, why was it late? Its line of the ledger, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from scorpio.core.plan import MOST_RETRY_S, RejectReason
from scorpio.core.slo import OnMiss
from scorpio.ledger.entry import Entry, Verdict
from scorpio.ledger.files import time_text
from scorpio.ledger.find import printable
from scorpio.ledger.service import service
from scorpio.ledger.words import count, first_due, ms_text, tokens
from scorpio.settings import NO_CLASS

_WISHES = {
    OnMiss.REJECT.value: "be refused",
    OnMiss.DEGRADE.value: "be served late",
    OnMiss.WAIT.value: "wait",
}


def explain(entry: Entry, came: str = "", others: Iterable[str] = ()) -> list[str]:
    """Sentences for an operator, the most important fact first. came: when, where the entry's own
    time is none of the wall clock. others: what is known of the requests beside it."""
    return [
        f"{printable(entry.id)}: {_headline(entry)}",
        *_asked(entry, came or f"at {time_text(entry.arrived_unix_s)}"),
        *_met(entry),
        *others,
        *(_refused(entry) if entry.verdict == Verdict.REFUSED.value else service(entry)),
        f"Policy: {entry.policy or 'not asked'}, of Scorpio {entry.version}, on engine"
        f" {entry.engine}.",
    ]


def _headline(entry: Entry) -> str:
    if entry.verdict == Verdict.REFUSED.value:
        return f"refused after {ms_text(entry.ended_ms)}, {entry.reason}."
    if entry.outcome == "finished":
        late = " and ".join(kind.upper() for kind in entry.missed)
        promised = entry.slo_first_ms < math.inf or entry.slo_tpot_ms is not None
        return f"served, but it missed {late}." if late else f"served{', in time' * promised}."
    return f"{entry.outcome} after {ms_text(entry.ended_ms)}."


def _asked(entry: Entry, came: str) -> Iterator[str]:
    expected = ""
    if entry.predicted_tokens is not None:
        expected = f", {entry.predicted_tokens:,.0f} were expected"
    whose = f" It was of tenant {entry.tenant}." if entry.tenant else ""
    yield (
        f"It came {came} with {tokens(entry.prompt_tokens)} of prompt"
        f" and asked for at most {tokens(entry.max_tokens)}{expected}.{whose}"
    )
    slos = [
        (entry.slo_ttft_ms, "its first token within {}"),
        (entry.slo_tpot_ms, "a further token every {}"),
        (entry.slo_e2el_ms, "all of it within {}"),
    ]
    stated = [text.format(ms_text(ms)) for ms, text in slos if ms is not None]
    if not stated:
        yield "It had no SLO: nothing was promised, so it could not be late."
        return
    wish = _WISHES.get(entry.on_miss, entry.on_miss)
    of = "" if entry.slo_class == NO_CLASS else f" (class {entry.slo_class})"
    yield f"It was to have {', '.join(stated)}{of}, or else to {wish}."


def _met(entry: Entry) -> Iterator[str]:
    if not entry.waiting:
        yield f"When it came, none waited and {count(entry.running, 'request')} ran."
        return
    due = "None of those that waited was due before it."
    if entry.due_before:
        due = (
            f"Of those that waited {entry.due_before:,} were due before it, with"
            f" {tokens(entry.due_before_tokens)} to prefill."
        )
    yield (
        f"When it came, {count(entry.waiting, 'request')} waited"
        f" ({tokens(entry.waiting_tokens)} of prompt) and {count(entry.running, 'request')} ran."
        f" {due}"
    )


def _refused(entry: Entry) -> Iterator[str]:
    if entry.steps or entry.starts:
        yield (
            f"While it waited, {count(entry.starts, 'other request')} started, in"
            f" {count(entry.steps, 'step')} with {tokens(entry.step_tokens)}."
        )
    if entry.started_ms is not None:
        yield f"Its prompt was begun after {ms_text(entry.started_ms)}; it had no token yet."
    yield f"{_reason(entry)} It was refused after {ms_text(entry.ended_ms)}."
    if entry.reason in VLLM_CAPS:
        yield "Its client was told nothing of when to come back."
    elif entry.never:
        yield "Its client was told not to try again: not even an idle engine could do it."
    elif entry.retry_after_ms is None:
        yield "Its client was told no time to come back: under that load none could be promised."
    else:
        told_ms = min(entry.retry_after_ms, MOST_RETRY_S * 1000.0)
        yield f"Its client was told to come back after {ms_text(told_ms)}."


def _reason(entry: Entry) -> str:
    attainable_ms, due = entry.attainable_ttft_ms, first_due(entry)
    if entry.reason == RejectReason.TTFT_INFEASIBLE.value:
        if attainable_ms is not None and attainable_ms > entry.slo_first_ms:
            return f"Its first token was predicted after {ms_text(attainable_ms)} at best, {due}."
        return f"Not all that waited could have their first token in time, {due}, and it cost most."
    if entry.reason == RejectReason.TPOT_INFEASIBLE.value:
        asked = "" if entry.slo_tpot_ms is None else f" of {ms_text(entry.slo_tpot_ms)}"
        return f"The batch could not be kept so small that its TPOT SLO{asked} would hold."
    return _OTHER_REASONS.get(entry.reason, f"The reason was {entry.reason}.")


VLLM_CAPS = ("max_num_queued_tokens", "max_num_queued_reqs")  # stock vLLM's own, in the twin
_OTHER_REASONS = {
    **{cap: f"vLLM's own cap on what may wait was reached ({cap})." for cap in VLLM_CAPS},
    RejectReason.KV_INFEASIBLE.value: "Its prompt and answer do not fit into the KV cache.",
    RejectReason.QUEUE_FULL.value: (
        "As much was waiting as may wait (most_waiting, most_waiting_tokens)."
    ),
    RejectReason.OVER_QUOTA.value: (
        "Its tenant had more than its part (most_in_flight_per_tenant, tenant_share)."
    ),
}
