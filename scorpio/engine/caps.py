"""How much may wait in the engine, and how much of it may be one tenant's? Generous, never endless.

A request beyond a cap is refused on arrival, SLO or none. The API process has caps of its own
(scorpio/server/accounts/in_flight.py); these also hold for callers that come another way, and for
several API processes together. What a waiting request holds here is its prompt as token ids, about
60 bytes a token with the hashes of its blocks: `waiting_tokens` bounds that memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.request import RequestView

# Nothing is known of when there will be room: a few seconds, each value in them as often as the
# others, and neighbours apart (the stride has no factor in common with their number).
_RETRY_MS = (1000, 5000)
_STRIDE_MS = 379


@dataclass(frozen=True, slots=True)
class Caps:
    """Waiting requests, their prompt tokens, and requests of one account from arrival to end."""

    waiting: int
    waiting_tokens: int
    per_tenant: int

    def refusal(
        self, view: RequestView, waiting: int, waiting_tokens: int, in_flight: Counter[str]
    ) -> Rejection | None:
        """Of one that has just been counted in; None when there is room."""
        if in_flight[account(view)] > self.per_tenant:
            reason = RejectReason.OVER_QUOTA
        elif waiting > self.waiting or (waiting > 1 and waiting_tokens > self.waiting_tokens):
            reason = RejectReason.QUEUE_FULL
        else:
            return None
        return Rejection(view.request_id, reason, retry_after_s=spread_ms(view.seq) / 1000.0)


def spread_ms(number: int) -> int:
    """When to come back, for the request with this number: those turned away together must not
    return together."""
    least_ms, most_ms = _RETRY_MS
    return least_ms + number * _STRIDE_MS % (most_ms - least_ms)


def account(view: RequestView) -> str:
    """Whose request it is: the account that the server has checked, "" for all it has not. A name
    within it can be made up (scorpio.core.policies.scorpio.fair_share)."""
    checked, slash, _ = view.tenant.partition("/")
    return checked if slash else ""
