"""How long does a step really take? The true speed, with scatter, stalls and a throttled clock."""

from __future__ import annotations

import math
from random import Random

from tests.simulation.swarm import Swarm, tick


class Speed:
    """A seeded stream of step times; only the virtual clock knows it."""

    def __init__(self, swarm: Swarm) -> None:
        rng = Random(swarm.seed * 31 + 7)
        self._rng, self._noise = rng, swarm.has("noise")
        self._sigma, self._stall_share = rng.choice((0.02, 0.1, 0.3)), rng.choice((0.0, 0.01))
        self._factor = math.exp(rng.uniform(math.log(0.3), math.log(4.0)))
        last_s = swarm.requests * swarm.mean_request_s / swarm.spec.max_num_seqs / swarm.load
        self._from_s = rng.uniform(0.0, last_s) if swarm.has("throttled") else math.inf

    def step_s(self, mean_s: float, start_s: float) -> float:
        """Duration of a step of this mean that begins now."""
        rng = self._rng
        scatter, stall = rng.gauss(0.0, self._sigma), rng.random()
        if start_s >= self._from_s:
            mean_s *= self._factor
        if not self._noise:
            return tick(mean_s)
        stalled_s = 20.0 * mean_s if stall < self._stall_share else 0.0
        return tick(mean_s * math.exp(scatter) + stalled_s)
