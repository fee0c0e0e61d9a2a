"""How many tokens may a tenant still have? A bucket that fills at its rate, up to its burst.

A request is let in while one token is there, and everything it uses is charged: so the bucket may
fall below zero, by what requests in work still produce, and then none is let in until it is filled
again. Over any time a tenant gets no more than burst + rate x time, plus what those in work at its
end had yet to produce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ENTRY: Final = 1.0  # token that must be there


@dataclass(slots=True)
class TokenBucket:
    """rate: tokens per second. burst: the most it holds. It begins full."""

    rate: float
    burst: float
    at_s: float
    _tokens: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rate > 0.0 and self.burst >= _ENTRY):
            raise ValueError("a bucket needs a rate > 0 and a burst of a token or more")
        self._tokens = self.burst

    def tokens(self, now_s: float) -> float:
        """What is in it now; below zero when more was used than there was."""
        gained = self.rate * max(now_s - self.at_s, 0.0)
        return min(self._tokens + gained, self.burst)

    def wait_s(self, now_s: float) -> float:
        """Until a request is let in; 0 = now."""
        return max(_ENTRY - self.tokens(now_s), 0.0) / self.rate

    def charge(self, tokens: float, now_s: float) -> None:
        """So many were used; less than none: given back."""
        self._tokens = min(self.tokens(now_s) - tokens, self.burst)
        self.at_s = max(now_s, self.at_s)

    def retune(self, rate: float, burst: float, now_s: float) -> None:
        """Another rate and burst from now on. What was used stays used."""
        TokenBucket(rate, burst, now_s)  # checks them
        left = self.tokens(now_s)
        self.rate, self.burst, self.at_s = rate, burst, max(now_s, self.at_s)
        self._tokens = min(left, burst)
