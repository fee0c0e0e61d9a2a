"""What does a tenant use now, and may it have more? Tokens by a bucket, tight requests by a count.

A request is let in while the tenant's bucket is not empty. Its prompt is charged at the door, at
four bytes of its body a token, and corrected once vLLM has tokenised it; each output token is
charged when it is produced. What is refused later gets its tokens back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from scorpio.core.token_bucket import TokenBucket
from scorpio.server.accounts.terms import Tenant

BYTES_A_TOKEN: Final = 4  # of a body that is not tokenised yet


class OverRateError(Exception):
    """The bucket is empty. `wait_s`: until it is not."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("the tenant's rate is used up")
        self.wait_s = wait_s


class OverTightError(Exception):
    """So many tight requests are in flight already. `most`: that may be."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} tight requests of this tenant at once")


@dataclass(slots=True)
class TenantUse:
    """bucket: None without a rate. tight: engine requests in flight. *_tokens: so far."""

    bucket: TokenBucket | None = None
    tight: int = 0
    prompt_tokens: float = 0.0
    output_tokens: int = 0


@dataclass(slots=True)
class Visit:
    """What one HTTP request takes of its tenant; nothing where it has none."""

    use: TenantUse | None
    now_s: Callable[[], float]
    _reserved: float = 0.0
    _tight: int = 0

    def enter(self, body_bytes: int, tight_parts: int, most_tight: int | None) -> None:
        """Let in, with all its parts. Raises OverRateError, OverTightError, and takes nothing."""
        use = self.use
        if use is None:
            return
        if use.bucket is not None and (wait_s := use.bucket.wait_s(self.now_s())) > 0.0:
            raise OverRateError(wait_s)
        if most_tight is not None and tight_parts and use.tight + tight_parts > most_tight:
            raise OverTightError(most_tight)
        use.tight += tight_parts
        self._tight = tight_parts
        self._reserved = float(body_bytes // BYTES_A_TOKEN)
        self._charge(self._reserved)

    def prompt(self, tokens: int) -> float:
        """vLLM has tokenised a prompt of it; what it costs. Of none that is known the estimate."""
        cost = float(tokens) if tokens else self._reserved
        self._charge(cost - self._reserved)
        self._reserved = 0.0
        return cost

    def refused(self, cost: float) -> None:
        """The prompt with this cost was not served."""
        self._charge(-cost)

    def began(self, cost: float) -> None:
        """It was: its first token is there."""
        if self.use is not None:
            self.use.prompt_tokens += cost

    def output(self, tokens: int) -> None:
        """So many were produced."""
        self._charge(tokens)
        if self.use is not None:
            self.use.output_tokens += tokens

    def leave(self) -> None:
        """The response is complete. What never came to the engine is not paid for."""
        self._charge(-self._reserved)
        self._reserved = 0.0
        if self.use is not None:
            self.use.tight -= self._tight
        self._tight = 0

    def _charge(self, tokens: float) -> None:
        if tokens and self.use is not None and self.use.bucket is not None:
            self.use.bucket.charge(tokens, self.now_s())


@dataclass(slots=True)
class TenantUses:
    """Of all tenants of the SLO file, in this API process."""

    by_name: dict[str, TenantUse] = field(default_factory=dict)
    now_s: Callable[[], float] = time.monotonic

    @contextmanager
    def visit(self, tenant: Tenant | None) -> Iterator[Visit]:
        """Until the response is complete."""
        use = None if tenant is None else self.by_name.get(tenant.name)
        visit = Visit(use, self.now_s)
        try:
            yield visit
        finally:
            visit.leave()

    def follow(self, tenants: Mapping[str, Tenant]) -> None:
        """Other tenants or other limits from now on; what was used stays used."""
        now_s = self.now_s()
        self.by_name = {
            name: _retuned(self.by_name.get(name, TenantUse()), tenant, now_s)
            for name, tenant in tenants.items()
        }

    def state(self) -> dict[str, dict[str, Any]]:
        """For the status."""
        now_s = self.now_s()
        return {
            name: {
                "tight": use.tight,
                "prompt_tokens": round(use.prompt_tokens),
                "output_tokens": use.output_tokens,
                "bucket_tokens": None if use.bucket is None else round(use.bucket.tokens(now_s)),
            }
            for name, use in self.by_name.items()
        }


def _retuned(use: TenantUse, tenant: Tenant, now_s: float) -> TenantUse:
    rate, burst = tenant.settings.rate_tokens_per_s, tenant.settings.burst
    if rate is None:
        use.bucket = None
    elif use.bucket is None:
        use.bucket = TokenBucket(rate, burst, now_s)
    else:
        use.bucket.retune(rate, burst, now_s)
    return use
