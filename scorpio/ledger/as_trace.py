"""How does a ledger become a trace? When requests came, how long they were, what they share, what
they asked for; so that any policy can be asked what it would have done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scorpio.core.slo import XARG_CLASS, XARG_FIELDS, XARG_ON_MISS, OnMiss
from scorpio.ledger.entry import Entry
from scorpio.ledger.words import count, tokens
from scorpio.settings import NO_CLASS
from workloads.traces.row import BLOCK_TOKENS, TraceRow, block_count


@dataclass(frozen=True, slots=True)
class Recorded:
    """The rows, and how the lengths of answers were found that never came: predicted, or the mean
    of those that did come (at most max_tokens). passed_over: requests without a prompt."""

    rows: tuple[TraceRow, ...]
    predicted: int
    taken_as_mean: int
    passed_over: int

    def lines(self) -> list[str]:
        """For people."""
        span_s = self.rows[-1].arrival_s
        named = [block for row in self.rows for block in row.hash_ids]
        told = [
            f"{count(len(self.rows), 'request')} in {span_s:,.0f} s,"
            f" {len({row.tenant for row in self.rows})} tenants;"
            f" {tokens((len(named) - len(set(named))) * BLOCK_TOKENS)} of prompts are shared"
        ]
        if guessed := self.predicted + self.taken_as_mean:
            told.append(
                f"{count(guessed, 'answer')} never came: {self.predicted} have the predicted"
                f" length, {self.taken_as_mean} the mean of the others or, if less, max_tokens"
            )
        if self.passed_over:
            told.append(f"{count(self.passed_over, 'request')} without a prompt are left out")
        return told


def recorded(entries: Sequence[Entry]) -> Recorded:
    """Rows in order of arrival, the first at zero. Block numbers count from 0: no hash of a prompt
    leaves the ledger."""
    came = [entry.output_tokens for entry in entries if entry.outcome == "finished"]
    mean = fmean(came) if came else None
    numbers: dict[int, int] = {}
    rows, how, start_s = [], {"predicted": 0, "mean": 0}, None
    for entry in entries:
        if entry.prompt_tokens < 1:
            continue
        start_s = entry.arrived_unix_s if start_s is None else start_s
        output = entry.output_tokens
        if not output and entry.predicted_tokens is not None:
            output = round(min(entry.predicted_tokens, entry.max_tokens))
            how["predicted"] += 1
        elif not output:
            output = round(min(mean or entry.max_tokens, entry.max_tokens))
            how["mean"] += 1
        most = block_count(entry.prompt_tokens)
        rows.append(
            TraceRow(
                arrival_s=entry.arrived_unix_s - start_s,
                prompt_tokens=entry.prompt_tokens,
                output_tokens=max(output, 1),
                hash_ids=tuple(numbers.setdefault(b, len(numbers)) for b in entry.blocks[:most]),
                xargs=_xargs(entry),
                tenant=entry.tenant,
            )
        )
    return Recorded(tuple(rows), how["predicted"], how["mean"], len(entries) - len(rows))


def _xargs(entry: Entry) -> dict[str, object]:
    values = (entry.slo_ttft_ms, entry.slo_tpot_ms, entry.slo_e2el_ms)
    stated = {n: ms for n, ms in zip(XARG_FIELDS, values, strict=True) if ms is not None}
    if not stated:
        return {}
    named: dict[str, object] = dict(stated)
    if entry.slo_class != NO_CLASS:
        named = {XARG_CLASS: entry.slo_class, **named}
    return named if entry.on_miss == OnMiss.REJECT.value else {**named, XARG_ON_MISS: entry.on_miss}
