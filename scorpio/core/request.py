"""What is known of a request? Facts that are fixed on arrival, predictions among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scorpio.core.slo import Slo


@dataclass(frozen=True, slots=True)
class RequestView:
    """Facts of one request, fixed on arrival (predictions included: values, not callables).

    arrival_s: monotonic time the API process received it. deadline_s: when its first token is due.
    predicted_output_tokens: mean length; quantiles: (q10, q50, q90) or () when unknown.
    cached_tokens: leading prompt tokens that the prefix cache held when last looked at, always
        fewer than prompt_tokens. While it waits, the engine puts a view with a newer value here.
    held_tokens: of the cached ones, those that running requests hold: no room is needed for them.
    adapter: number of its LoRA adapter, 0 = none.
    weight: of its tenant among those of its class; 0 = the operator gives none.
    quoted: it asks for what it was quoted (`POST /v1/slo/quote`).
    asked: what the client has asked for, where the policy shall not go by it (engine/canary.py);
        None = `slo`.
    content: a number that requests with the same prompt have in common (and others whose last 64
        tokens are the same); 0 = not known.
    shared_tokens, shared_id: leading tokens in common with another that waits or is being
        computed, and a number that all with this beginning have; 0 = none.
    """

    request_id: str
    seq: int
    arrival_s: float
    prompt_tokens: int
    max_tokens: int
    slo: Slo
    slo_class: str = ""
    tenant: str = ""
    predicted_output_tokens: float = math.nan
    length_quantiles: tuple[float, ...] = ()
    cached_tokens: int = 0
    adapter: int = 0
    held_tokens: int = 0
    shared_tokens: int = 0
    shared_id: int = 0
    weight: float = 0.0
    quoted: bool = False
    asked: Slo | None = None
    content: int = 0

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens to be computed: those that are not in the prefix cache."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def uncached(self) -> RequestView:
        """The same request with nothing in the prefix cache. What its client is told is said of
        this one: whose prompts the cache holds is no other client's business."""
        return replace(self, cached_tokens=0) if self.cached_tokens else self

    @property
    def deadline_s(self) -> float:
        """Absolute time the first token is due (inf without a TTFT or E2E SLO)."""
        return self.arrival_s + min(self.slo.ttft_s, self.slo.e2e_s)

    @property
    def expected_output_tokens(self) -> float:
        """The prediction when it is usable, never above max_tokens; else max_tokens."""
        predicted = self.predicted_output_tokens
        return min(predicted, self.max_tokens) if predicted > 0.0 else self.max_tokens
