"""What did each client see, and was it well-formed? The client side of the twin.

The stream checks are always on: they are what makes a measured number trustworthy, and they cost
a comparison per token.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from scorpio.core.wire import decode_rejection
from scorpio.engine.virtual.requests import (
    STOP_TOKEN,
    TOKEN_STRIDE,
    EngineCoreOutput,
    EngineCoreOutputs,
    FinishReason,
)
from scorpio.twin.engine.arrivals import Arrival


class InvariantViolation(AssertionError):
    """The scheduler broke a promise of docs/reliability; the message says which one, and where."""


class End(enum.Enum):
    """How a request ended, as its client saw it."""

    FINISHED = "finished"
    REJECTED = "rejected"  # by the policy: 429
    TURNED_AWAY = "turned_away"  # by vLLM's own queue cap: 503
    INVALID = "invalid"  # vLLM answers 400: longer than the engine can ever serve
    LEFT = "left"  # the client went away
    FAILED = "failed"


@dataclass(slots=True)
class Entry:
    """One request's life; `end` is None while it lives."""

    arrival: Arrival
    next_token: int
    tokens: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0
    end: End | None = None
    end_s: float = 0.0
    reason: str = ""
    told_ttft_s: float | None = None  # what a refusal said it would have been
    retry_after_s: float | None = None  # when a refusal said to come back; None: it did not
    never: bool = False  # not even an idle engine could have kept the SLO


class Ledger:
    """All requests seen so far."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.submitted: set[str] = set()  # handed to the scheduler, not ended
        self.live = 0
        self.refused = 0  # by the policy or by vLLM's own caps
        self.prefill_tokens = 0  # prompts without a first token: vLLM's `max_num_queued_tokens`

    def open(self, arrival: Arrival) -> Entry:
        """A request was sent."""
        if arrival.request_id in self.entries:
            raise ValueError(f"duplicate request id {arrival.request_id!r}")
        entry = Entry(arrival, arrival.index * TOKEN_STRIDE)
        self.entries[arrival.request_id] = entry
        self.live += 1
        self.prefill_tokens += arrival.prompt_tokens
        return entry

    def close(self, entry: Entry, end: End, now_s: float, reason: str = "") -> None:
        """The one terminal answer."""
        if entry.end is not None:
            raise InvariantViolation(
                f"1: {entry.arrival.request_id} ended twice ({entry.end.value}, {end.value})"
            )
        if end is End.REJECTED and entry.tokens:
            raise InvariantViolation(f"3: {entry.arrival.request_id} rejected after a token")
        entry.end, entry.end_s, entry.reason = end, now_s, reason
        self.live -= 1
        self.refused += end in (End.REJECTED, End.TURNED_AWAY)
        self.submitted.discard(entry.arrival.request_id)
        if not entry.tokens:
            self.prefill_tokens -= entry.arrival.prompt_tokens

    def receive(self, outputs: dict[int, EngineCoreOutputs], now_s: float) -> list[Entry]:
        """Outputs of one step; returns the entries that got their first token or ended."""
        changed: list[Entry] = []
        for batch in outputs.values():
            for out in batch.outputs:
                entry = self.entries.get(out.request_id)
                if entry is None:
                    raise InvariantViolation(f"2: output for unknown {out.request_id!r}")
                tokens = out.new_token_ids
                if tokens:
                    # The common case inline: this loop runs once per token of the run.
                    if tokens[0] != entry.next_token or entry.end is not None or len(tokens) != 1:
                        self._check_stream(entry, tokens)
                    if not entry.tokens:
                        entry.first_s = now_s
                        self.prefill_tokens -= entry.arrival.prompt_tokens
                        if out.prefill_stats is not None:
                            entry.cached_tokens = out.prefill_stats.num_cached_tokens
                        changed.append(entry)
                    entry.tokens += len(tokens)
                    entry.next_token += len(tokens)
                    entry.last_s = now_s
                if out.finish_reason is not None:
                    self._finish(entry, out, now_s)
                    changed.append(entry)
        return changed

    def _check_stream(self, entry: Entry, tokens: list[int]) -> None:
        """Exactly the next tokens of this request, the stop token as the last one."""
        arrival = entry.arrival
        if entry.end is not None:
            raise InvariantViolation(f"2: token after the end of {arrival.request_id}")
        expected = list(range(entry.next_token, entry.next_token + len(tokens)))
        if entry.tokens + len(tokens) == arrival.output_tokens:
            expected[-1] = STOP_TOKEN
        if tokens != expected:
            position = tokens[0] - arrival.index * TOKEN_STRIDE
            raise InvariantViolation(
                f"13/14: {arrival.request_id} got token {position} (of {len(tokens)}) as its "
                f"token {entry.tokens}: gap, duplicate or another request's"
            )

    def _finish(self, entry: Entry, out: EngineCoreOutput, now_s: float) -> None:
        if entry.end is End.LEFT:
            return  # vLLM's API process drops answers to clients that are gone
        if out.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            if entry.tokens != entry.arrival.output_tokens:
                raise InvariantViolation(
                    f"14: {entry.arrival.request_id} finished after {entry.tokens} of "
                    f"{entry.arrival.output_tokens} tokens"
                )
            self.close(entry, End.FINISHED, now_s)
            return
        notice = decode_rejection(out.stop_reason)
        if notice is not None:
            entry.told_ttft_s = _seconds(notice.attainable_ttft_ms)
            entry.retry_after_s, entry.never = _seconds(notice.retry_after_ms), notice.never
            self.close(entry, End.REJECTED, now_s, notice.reason.value)
        else:
            self.close(entry, End.FAILED, now_s, f"{out.finish_reason}: {out.stop_reason}")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0
