"""When did which token arrive, and how did the stream end? One object per streamed answer.

A chunk is not a token: servers put several tokens into one chunk, send chunks without a token
(role, pings, the final usage), and hold text back. Tokens are counted by the best source each
chunk offers: the running total of `continuous_usage_stats`, `token_ids`, logprobs, and only then
"one chunk with text is one token".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from scorpio.core.wire import decode_rejection
from workloads.records import Outcome

_ERROR_CHARACTERS = 300
REFUSAL_CODES = (429, 503)  # "not now", as HTTP status or as code of an error event


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer ended; reason for a rejection, error text for a failure."""

    outcome: Outcome
    reject_reason: str | None = None
    error: str | None = None


class TokenStream:
    """Fed with events and their arrival times; keeps token times and the state of the stream."""

    def __init__(self) -> None:
        self.token_times_s: list[float] = []
        self.prompt_tokens: int | None = None
        self.error: str | None = None
        self.done = False
        self._total_tokens: int | None = None  # as the server says
        self._counted_exactly = True
        self._finish_reason: str | None = None
        self._stop_reason: object = None
        self._error_code: object = None

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer: the server's own count where it gives one."""
        counted = len(self.token_times_s)
        if self._total_tokens is None or counted == 0:
            return counted
        return max(self._total_tokens, 1)

    @property
    def exact_token_times_s(self) -> tuple[float, ...] | None:
        """One arrival time per token, or None when chunks had to be guessed to be tokens."""
        if not self._counted_exactly or len(self.token_times_s) != self.output_tokens:
            return None
        return tuple(self.token_times_s)

    def feed(self, now_s: float, event: str, data: bytes) -> None:
        """Take one event that arrived at now_s."""
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            payload = json.loads(data)
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            self.error = f"malformed event: {data[:80]!r}"
        elif event == "error" or payload.get("error") is not None:
            self.error = error_text(payload)
            detail = payload.get("error")
            self._error_code = detail.get("code") if isinstance(detail, dict) else None
        else:
            self._take_chunk(now_s, payload)

    def _take_chunk(self, now_s: float, payload: dict[str, Any]) -> None:
        usage = payload.get("usage")
        total = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
            self.prompt_tokens = usage["prompt_tokens"]
        if isinstance(total, int):
            self._total_tokens = total
        choices = payload.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return  # the final usage chunk carries no token
        choice = choices[0]
        if isinstance(total, int):
            new_tokens = total - len(self.token_times_s)
        else:
            new_tokens = self._count(choice)
        self.token_times_s.extend([now_s] * new_tokens)
        if choice.get("finish_reason") is not None:
            self._finish_reason = str(choice["finish_reason"])
            self._stop_reason = choice.get("stop_reason")

    def _count(self, choice: dict[str, Any]) -> int:
        if isinstance(token_ids := choice.get("token_ids"), list):
            return len(token_ids)
        if isinstance(logprobs := choice.get("logprobs"), dict):
            listed = logprobs.get("tokens") or logprobs.get("content")
            if isinstance(listed, list):
                return len(listed)
        if not _has_content(choice):
            return 0
        self._counted_exactly = False
        return 1

    def verdict(self) -> Verdict:
        """How it ended, once no more bytes will come. Only a proper end is a success."""
        if self.error is not None:
            if self._error_code in REFUSAL_CODES and not self.token_times_s:
                # vLLM sends 200 before its queue caps refuse a stream
                reason = f"http_{self._error_code}"
                return Verdict(Outcome.REJECTED, reject_reason=reason, error=self.error)
            return Verdict(Outcome.FAILED, error=self.error)
        if self._finish_reason is None:
            return Verdict(Outcome.FAILED, error="the stream ended without a finish reason")
        if self._finish_reason in ("abort", "error"):
            notice = decode_rejection(self._stop_reason)
            if notice is not None and not self.token_times_s:
                return Verdict(Outcome.REJECTED, reject_reason=notice.reason.value)
            detail = f"finish reason {self._finish_reason!r}, stop reason {self._stop_reason!r}"
            return Verdict(Outcome.FAILED, error=detail[:_ERROR_CHARACTERS])
        if not self.token_times_s:
            return Verdict(Outcome.FAILED, error="finished without a token")
        return Verdict(Outcome.FINISHED)


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
    error = payload.get("error", payload)
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return str(error)[:_ERROR_CHARACTERS]
