"""Which requests come, when, with what? The twin's input: one frozen value per request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scorpio.core.slo import NO_SLO, Slo


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as the API process would hand it to the engine.

    output_tokens is known to the modelled GPU only. max_tokens is what the client asked for and
    every policy can see; it must not give the true length away (see `TwinConfig.exact_max_tokens`).
    abort_s: absolute time at which the client leaves, if the answer is not complete by then.
    content: number of what its prompt says, which a further try says again; 0 = of nothing else.
    """

    index: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    slo: Slo = NO_SLO
    slo_class: str = ""
    tenant: str = ""
    xargs: Mapping[str, object] = field(default_factory=dict)
    prefix_ids: tuple[int, ...] = ()
    prefix_block_tokens: int = 512
    abort_s: float = math.inf
    content: int = 0

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or not 1 <= self.output_tokens <= self.max_tokens:
            raise ValueError(
                f"request {self.index}: need prompt >= 1 and 1 <= output <= max_tokens"
            )
        if not (math.isfinite(self.arrival_s) and self.arrival_s >= 0.0):
            raise ValueError(f"request {self.index}: arrival_s must be finite and >= 0")

    @property
    def request_id(self) -> str:
        """Zero-padded, so that text order is arrival order."""
        return f"r{self.index:07d}"
