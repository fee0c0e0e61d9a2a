"""What is known about a request when its answer length is predicted?"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LengthRequest:
    """Facts of one request. max_tokens 0 = no limit given; turn counts from 1.

    prompt: the last user turn; system: system prompt or chat template text, known by its hash.
    """

    prompt: str
    prompt_tokens: int
    max_tokens: int = 0
    temperature: float = 1.0
    system: str = ""
    turn: int = 1
    model: str = ""
    tenant: str = ""

    def __post_init__(self) -> None:
        if self.prompt_tokens < 0 or self.max_tokens < 0 or self.turn < 1:
            raise ValueError("prompt_tokens and max_tokens must be >= 0, turn >= 1")
        if not math.isfinite(self.temperature) or self.temperature < 0.0:
            raise ValueError("temperature must be finite and >= 0")
