"""What happened to one request, and was it GOOD? One record per request sent, by any engine.

Live replay and the twin write the same record, so every number in a report comes from one place.
Times are seconds from the start of the run. Definitions: docs/glossary.md.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

# Two clock readings subtracted can be off by an ulp; a nanosecond never decides an SLO.
TIME_TOLERANCE_S = 1e-9
_TIMES = ("send_s", "scheduled_send_s", "first_token_s", "last_token_s", "ended_s", "last_send_s",
          "turn_s")  # fmt: skip


class Outcome(enum.StrEnum):
    """How a request ended, as its client saw it."""

    FINISHED = "finished"
    REJECTED = "rejected"  # refused before the first token, with a reason
    FAILED = "failed"  # HTTP error, error in the stream, broken or unfinished stream
    TIMED_OUT = "timed_out"  # the client gave up


class Miss(enum.StrEnum):
    """Which promise a finished request broke."""

    TTFT = "ttft"
    TPOT = "tpot"
    BOTH = "both"
    E2E = "e2e"  # only the end-to-end one


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as sent and as answered.

    scheduled_send_s is what the trace asked for, send_s when it really left; an SLO of `inf`
    means none was asked for. output_tokens counts tokens received. token_times_s is given only
    when every token's arrival is known exactly. ended_s is when the answer (of any kind) was
    complete; error is a short text for failures. predicted_*: what the policy forecast when it let
    the request in, or the TTFT that a refusal named; None where nothing was told. value: what it
    is worth when it is good, beside 1 for an ordinary one. client_fault: it failed at the client
    itself (no descriptor left, no name resolved): the run says nothing about the server.
    tries, last_send_s: of a client that sends a refused request again, how often it has been sent,
    and when for the last time; all else counts from the first. intended_tokens: how long the
    answer would be, or would have been. turn_s: in a closed loop, when a client was free to send
    it.
    """

    index: int
    slo_class: str
    tenant: str = ""
    send_s: float
    scheduled_send_s: float
    prompt_tokens: int
    output_tokens: int
    ttft_slo_s: float = math.inf
    tpot_slo_s: float = math.inf
    e2e_slo_s: float = math.inf
    outcome: Outcome
    reject_reason: str | None = None
    http_status: int | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    token_times_s: tuple[float, ...] | None = None
    preemptions: int = 0
    ended_s: float | None = None
    error: str | None = None
    predicted_ttft_s: float | None = None
    predicted_tpot_s: float | None = None
    value: float = 1.0
    client_fault: bool = False
    tries: int = 1
    last_send_s: float | None = None
    intended_tokens: int | None = None
    turn_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("index", "prompt_tokens", "output_tokens", "preemptions"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)!r}")
        for name in ("ttft_slo_s", "tpot_slo_s", "e2e_slo_s"):
            if not getattr(self, name) > 0.0:  # also catches NaN
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)!r}")
        if not (self.value > 0.0 and math.isfinite(self.value)):
            raise ValueError(f"value must be > 0 and finite, got {self.value!r}")
        if self.tries < 1 or (self.tries > 1) != (self.last_send_s is not None):
            raise ValueError("tries must be >= 1, and last_send_s is given when it is above 1")
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value!r}")
        for name in ("predicted_ttft_s", "predicted_tpot_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and >= 0, got {value!r}")
        if (self.first_token_s is None) != (self.last_token_s is None):
            raise ValueError("first_token_s and last_token_s are given together or not at all")
        if self.first_token_s is not None and self.last_token_s is not None:
            if self.last_token_s < self.first_token_s:
                raise ValueError("last_token_s is before first_token_s")
            if self.output_tokens < 1:
                raise ValueError("token times without an output token")
        if self.token_times_s is not None and len(self.token_times_s) != self.output_tokens:
            raise ValueError("token_times_s must hold one time per output token")
        self._check_outcome()

    def _check_outcome(self) -> None:
        if self.outcome is Outcome.FINISHED and self.first_token_s is None:
            raise ValueError("a finished request has a first token")
        if self.client_fault and self.outcome is not Outcome.FAILED:
            raise ValueError("a fault of the client is a failure")
        if (self.outcome is Outcome.REJECTED) != (self.reject_reason is not None):
            raise ValueError("reject_reason belongs to rejected requests, and to them alone")
        if self.outcome is Outcome.REJECTED and self.first_token_s is not None:
            raise ValueError("a request is never rejected after its first token")

    @property
    def asked_s(self) -> float:
        """When it was sent for the last time."""
        return self.send_s if self.last_send_s is None else self.last_send_s

    @property
    def good_in_last_try(self) -> bool:
        """Good, when its promises count from its last try."""
        return replace(self, send_s=self.asked_s).good

    @property
    def lateness_s(self) -> float:
        """How far the client was behind its own schedule."""
        return self.send_s - self.due_s

    @property
    def due_s(self) -> float:
        """When it was to be sent: as the trace says, or when its turn came."""
        return self.scheduled_send_s if self.turn_s is None else self.turn_s

    @property
    def ttft_s(self) -> float | None:
        """Send time to arrival of the first token; None without a token."""
        return None if self.first_token_s is None else self.first_token_s - self.send_s

    @property
    def tpot_s(self) -> float | None:
        """(last token - first token) / (tokens - 1); None for fewer than two tokens."""
        if self.first_token_s is None or self.last_token_s is None or self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float | None:
        """Send time to arrival of the last token; None unless finished."""
        if self.outcome is not Outcome.FINISHED or self.last_token_s is None:
            return None
        return self.last_token_s - self.send_s

    @property
    def end_s(self) -> float:
        """The last thing known to have happened: end of the answer, last token, or the send."""
        known = self.last_token_s if self.ended_s is None else self.ended_s
        return self.send_s if known is None else known

    @property
    def miss(self) -> Miss | None:
        """The promise a finished request broke; None when it broke none or did not finish."""
        if self.outcome is not Outcome.FINISHED:
            return None
        late_first = _exceeds(self.ttft_s, self.ttft_slo_s)
        late_rest = _exceeds(self.tpot_s, self.tpot_slo_s)
        if late_first:
            return Miss.BOTH if late_rest else Miss.TTFT
        if late_rest:
            return Miss.TPOT
        return Miss.E2E if _exceeds(self.e2e_s, self.e2e_slo_s) else None

    @property
    def good(self) -> bool:
        """Finished, and every promise kept. For one token TPOT is undefined: only TTFT counts."""
        return self.outcome is Outcome.FINISHED and self.miss is None


def _exceeds(value_s: float | None, slo_s: float) -> bool:
    return value_s is not None and value_s > slo_s + TIME_TOLERANCE_S
