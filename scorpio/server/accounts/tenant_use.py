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
from typing import Any, Final, NamedTuple

from scorpio.core.token_bucket import TokenBucket
from scorpio.server.accounts.terms import Tenant
from scorpio.server.shared import Shared

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
    """In this API process, since its start. bucket: None without a rate; what the others have
    charged is taken out of it, too. tight: engine requests in flight. *_tokens: so far."""

    name: str = ""
    shared: Shared = field(default_factory=Shared)
    bucket: TokenBucket | None = None
    tight: int = 0
    prompt_tokens: float = 0.0
    output_tokens: int = 0
    _resting: TokenBucket | None = None  # while it has no rate
    _charged: float = 0.0
    _seen: float = 0.0  # of what the others have charged; each token once, whenever it is seen

    def charge(self, tokens: float, now_s: float) -> None:
        """So many tokens were used here."""
        if self.bucket is not None:
            self.bucket.charge(tokens, now_s)
            self._charged += tokens
            self._share("charged", self._charged)

    def follow(self, now_s: float) -> None:
        """What the other API processes have charged since: often, for it counts as used now."""
        if self.bucket is not None and (unseen := self._unseen()):
            self.bucket.charge(unseen, now_s)
            self._seen += unseen

    def bucket_tokens(self, now_s: float) -> float | None:
        """What is in the bucket. To ask changes nothing."""
        return None if self.bucket is None else self.bucket.tokens(now_s) - self._unseen()

    def limit(self, rate: float | None, burst: float, now_s: float) -> None:
        """From now on. A bucket that it once had goes on where it was: to take a rate out of the
        file and put it back is no way to fill it."""
        bucket = self.bucket or self._resting
        if rate is None:
            self.bucket, self._resting = None, bucket
            return
        if bucket is None:
            bucket = TokenBucket(rate, burst, now_s)
        else:
            bucket.retune(rate, burst, now_s)
        self.bucket, self._resting = bucket, None

    def take_tight(self, more: int) -> None:
        """So many tight requests more, or less."""
        self.tight += more
        self._share("tight", self.tight)

    def produced(self, prompt_tokens: float = 0.0, output_tokens: int = 0) -> None:
        """Prompts that were served, and what was answered."""
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens
        self._share("prompt", self.prompt_tokens)
        self._share("output", self.output_tokens)

    def totals(self) -> Totals:
        """Of all API processes."""
        others = (self.shared.others(self._key(what)) for what in ("tight", "prompt", "output"))
        tight, prompt_tokens, output_tokens = others
        return Totals(
            self.tight + int(tight),
            self.prompt_tokens + prompt_tokens,
            self.output_tokens + int(output_tokens),
        )

    def _unseen(self) -> float:
        return self.shared.others(self._key("charged")) - self._seen

    def _share(self, what: str, number: float) -> None:
        self.shared.put(self._key(what), number)

    def _key(self, what: str) -> str:
        return f"{what} {self.name}"


class Totals(NamedTuple):
    """As in TenantUse."""

    tight: int
    prompt_tokens: float
    output_tokens: int


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
        use.follow(self.now_s())
        if use.bucket is not None and (wait_s := use.bucket.wait_s(self.now_s())) > 0.0:
            raise OverRateError(wait_s)
        use.take_tight(tight_parts)  # before it is looked at: the others see it
        if most_tight is not None and tight_parts and use.totals().tight > most_tight:
            use.take_tight(-tight_parts)
            raise OverTightError(most_tight)
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
            self.use.produced(prompt_tokens=cost)

    def output(self, tokens: int) -> None:
        """So many were produced."""
        self._charge(tokens)
        if self.use is not None:
            self.use.produced(output_tokens=tokens)

    def leave(self) -> None:
        """The response is complete. What never came to the engine is not paid for."""
        self._charge(-self._reserved)
        self._reserved = 0.0
        if self.use is not None:
            self.use.take_tight(-self._tight)
        self._tight = 0

    def _charge(self, tokens: float) -> None:
        if tokens and self.use is not None:
            self.use.charge(tokens, self.now_s())


@dataclass(slots=True)
class TenantUses:
    """Of all tenants of the SLO file, in this API process. shared: with the others. known: also of
    those that were taken out of the file since the start, as many as the operator has named: one
    that comes back has used what it used, and its requests in flight are still counted."""

    by_name: dict[str, TenantUse] = field(default_factory=dict)
    known: dict[str, TenantUse] = field(default_factory=dict)
    now_s: Callable[[], float] = time.monotonic
    shared: Shared = field(default_factory=Shared)

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
        for name, tenant in tenants.items():
            use = self.known.setdefault(name, TenantUse(name, self.shared))
            use.limit(tenant.settings.rate_tokens_per_s, tenant.settings.burst, now_s)
        self.by_name = {name: self.known[name] for name in tenants}

    def look(self) -> None:
        """What the others have charged; also for tenants without a request here. What is used over
        an hour fills again meanwhile: taken out at its end it would be a debt of an hour."""
        now_s = self.now_s()
        for use in self.known.values():
            use.follow(now_s)

    def state(self) -> dict[str, dict[str, Any]]:
        """For the status: of all API processes."""
        now_s = self.now_s()
        return {name: _state(use, now_s) for name, use in self.by_name.items()}


def _state(use: TenantUse, now_s: float) -> dict[str, Any]:
    totals, bucket_tokens = use.totals(), use.bucket_tokens(now_s)
    return {
        "tight": totals.tight,
        "prompt_tokens": round(totals.prompt_tokens),
        "output_tokens": totals.output_tokens,
        "bucket_tokens": None if bucket_tokens is None else round(bucket_tokens),
    }
