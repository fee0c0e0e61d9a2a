"""When did which token arrive, and how did the stream end? One object per streamed answer.

A chunk is not a token: servers put several tokens into one chunk, send chunks without a token
(role, pings, the final usage), and hold text back. Tokens are counted by the best source each
chunk offers: the running total of `continuous_usage_stats`, `token_ids`, logprobs, and only then
"one chunk with text is one token". That a field is there says little: some servers send a usage
of zeros with every chunk, or a finish reason of "" or "null" before the end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scorpio.core.wire import decode_rejection
from workloads.results.records import Outcome

_ERROR_CHARACTERS = 300
_REASON_CHARACTERS = 80
_MAX_TOKENS = 1_000_000  # of one answer; a usage beyond it is not believed
REFUSAL_CODES = (429, 503)  # "not now", as HTTP status or as code of an error event
# OpenAI's and vLLM's, then those of other servers behind the same API.
_PROPER_ENDS = (
    "stop", "length", "tool_calls", "function_call", "content_filter", "repetition",
    "eos", "eos_token", "stop_sequence", "end_turn", "max_tokens",
)  # fmt: skip
_BROKEN_ENDS = ("abort", "error")
_NO_END = ("", "null", "none")  # said while the answer still goes on


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer ended; reason for a rejection, error text for a failure. client_fault: it
    failed at the client, so it says nothing about the server."""

    outcome: Outcome
    reject_reason: str | None = None
    error: str | None = None
    client_fault: bool = False


class TokenStream:
    """Fed with events and their arrival times; keeps token times and the state of the stream."""

    def __init__(self) -> None:
        self.token_times_s: list[float] = []
        self.prompt_tokens: int | None = None
        self.error: str | None = None
        self.done = False
        self.events = 0
        self._total_tokens = 0  # as the server says; 0 says nothing
        self._usage_runs = True  # every chunk with content came with a total that had grown
        self._once_more_s: float | None = (
            None  # the last chunk had content, its total had not grown
        )
        self._counted_exactly = True
        self._finish_reason: str | None = None
        self._stop_reason: object = None
        self._error_code: object = None

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer: the server's own count where it gives one."""
        counted = len(self.token_times_s)
        if counted == 0 or self._total_tokens == 0:
            return counted
        # A usage that does not grow with the answer may be of one chunk alone.
        return self._total_tokens if self._usage_runs else max(self._total_tokens, counted)

    @property
    def exact_token_times_s(self) -> tuple[float, ...] | None:
        """One arrival time per token, or None when chunks had to be guessed to be tokens."""
        if not self._counted_exactly or len(self.token_times_s) != self.output_tokens:
            return None
        return tuple(self.token_times_s)

    def feed(self, now_s: float, event: str, data: bytes) -> None:
        """Take one event that arrived at now_s."""
        self.events += 1
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            payload = json.loads(data)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            self.error = f"malformed event: {data[:80]!r}"
        elif event == "error" or payload.get("error") or payload.get("object") == "error":
            self.error = error_text(payload)
            detail = payload.get("error")
            self._error_code = (detail if isinstance(detail, dict) else payload).get("code")
        else:
            self._take_chunk(now_s, payload)

    def _take_chunk(self, now_s: float, payload: dict[str, Any]) -> None:
        usage = payload.get("usage")
        total = 0
        if isinstance(usage, dict):
            total = _count_of(usage, "completion_tokens")
            self.prompt_tokens = _count_of(usage, "prompt_tokens") or self.prompt_tokens
        self._total_tokens = total or self._total_tokens
        choices = payload.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return  # the final usage chunk carries no token
        choice = choices[0]
        self.token_times_s += self._new_times_s(now_s, choice, total)
        reason = choice.get("finish_reason")
        if reason is not None and str(reason).strip().lower() not in _NO_END:
            self._finish_reason = str(reason)
            self._stop_reason = choice.get("stop_reason")

    def _new_times_s(self, now_s: float, choice: dict[str, Any], total: int) -> list[float]:
        """Times of the tokens that this chunk brought: by the running total where it is one."""
        counted, once_more_s = len(self.token_times_s), self._once_more_s
        self._once_more_s = None
        if self._usage_runs and total > counted:
            return [now_s] * (total - counted)
        exact = _listed_tokens(choice)
        if exact or not _has_content(choice):
            return [now_s] * exact
        if self._usage_runs and total == counted > 0 and once_more_s is None:
            self._once_more_s = now_s  # a token in two pieces? Twice in a row: no running total
            return []
        self._usage_runs = self._counted_exactly = False
        return [now_s] if once_more_s is None else [once_more_s, now_s]

    def verdict(self) -> Verdict:
        """How it ended, once no more bytes will come. Only a proper end is a success."""
        if self.error is not None:
            if str(self._error_code) in map(str, REFUSAL_CODES) and not self.token_times_s:
                # vLLM sends 200 before its queue caps refuse a stream
                reason = f"http_{self._error_code}"
                return Verdict(Outcome.REJECTED, reject_reason=reason, error=self.error)
            return Verdict(Outcome.FAILED, error=self.error)
        if self._finish_reason is None:
            return Verdict(Outcome.FAILED, error=self._no_end())
        if self._finish_reason.lower() not in _PROPER_ENDS:
            notice = decode_rejection(self._stop_reason)
            broken = self._finish_reason in _BROKEN_ENDS
            if broken and notice is not None and not self.token_times_s:
                return Verdict(Outcome.REJECTED, reject_reason=notice.reason.value)
            detail = f"finish reason {self._finish_reason!r}, stop reason {self._stop_reason!r}"
            return Verdict(Outcome.FAILED, error=plain(detail, _ERROR_CHARACTERS))
        if not self.token_times_s:
            return Verdict(Outcome.FAILED, error="finished without a token")
        return Verdict(Outcome.FINISHED)

    def _no_end(self) -> str:
        if not self.events:
            return "the answer is no event stream"
        after = " (but with [DONE])" if self.done else ""
        return f"the stream ended without a finish reason{after}"


def _count_of(usage: dict[str, Any], name: str) -> int:
    """A count of a usage; 0 when it is absent, zero, or none at all."""
    value = usage.get(name)
    return value if type(value) is int and 0 < value <= _MAX_TOKENS else 0


def _listed_tokens(choice: dict[str, Any]) -> int:
    """Tokens that a chunk lists one by one, as ids or with their log probabilities."""
    if isinstance(token_ids := choice.get("token_ids"), list) and token_ids:
        return len(token_ids)
    if isinstance(logprobs := choice.get("logprobs"), dict):
        listed = logprobs.get("tokens") or logprobs.get("content")
        if isinstance(listed, list):
            return len(listed)
    return 0


def _has_content(choice: dict[str, Any]) -> bool:
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return False
    return any(
        delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls")
    )


def error_text(payload: dict[str, Any]) -> str:
    """The message of an OpenAI-style error body, in whichever of its shapes."""
    error = payload.get("error") or payload
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return plain(error, _ERROR_CHARACTERS)


def plain(text: object, characters: int = _REASON_CHARACTERS) -> str:
    """Words from a server, fit for a file and a terminal: one line, bounded, no control codes."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:characters])
