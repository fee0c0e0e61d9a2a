"""What does a drafter cost, and how many of its drafts are accepted?

A step with a drafter is the target model's step, which verifies, and K passes of the drafter. Its
weights against the target's say how much dearer the fixed part becomes, its layers against the
target's how much dearer a token.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scorpio.twin.gpu.step_models import GpuModel


@dataclass(frozen=True, slots=True)
class Drafter:
    """drafts: per request and step (K). chance: that a draft is accepted when all before it were,
    on average over requests; spread: its standard deviation between requests (a beta distribution).
    pass_share: of the target's fixed time per step, for one pass. token_share: of its time per
    token. source: of these numbers.
    """

    name: str
    drafts: int
    chance: float
    spread: float
    pass_share: float
    token_share: float
    source: str

    def __post_init__(self) -> None:
        if not 0.0 < self.chance < 1.0 or not 0.0 <= self.spread**2 < self.chance * (
            1.0 - self.chance
        ):
            raise ValueError(f"no chance {self.chance!r} with spread {self.spread!r}")

    def with_drafts(self, drafts: int) -> Drafter:
        """The same with another number of drafts per step."""
        return replace(self, drafts=drafts)

    def slower(self, gpu: GpuModel) -> GpuModel:
        """This GPU with the drafter beside the model."""
        step = gpu.step
        token, passes = 1.0 + self.token_share, 1.0 + self.drafts * self.pass_share
        return replace(
            gpu,
            step=replace(
                step,
                base_s=step.base_s * passes,
                low_token_s=step.low_token_s * token,
                high_token_s=step.high_token_s * token,
            ),
        )

    def accepts(self, seed: int) -> Callable[[str, int], int]:
        """Of so many drafts of a request, how many are accepted: until the first that is not.
        Each request has a chance of its own, which its id and the seed fix."""
        chances: dict[str, float] = {}
        rng = np.random.default_rng([seed, 0xD4AF7])
        size = self.chance * (1.0 - self.chance) / self.spread**2 - 1.0 if self.spread else 0.0

        def own(request_id: str) -> float:
            if not self.spread:
                return self.chance
            drawn = np.random.default_rng([seed, zlib.crc32(request_id.encode())])
            return float(drawn.beta(size * self.chance, size * (1.0 - self.chance)))

        def accepted(request_id: str, drafts: int) -> int:
            if request_id not in chances:
                chances[request_id] = own(request_id)
            missed = np.flatnonzero(rng.random(drafts) >= chances[request_id])
            return int(missed[0]) if len(missed) else drafts

        return accepted
