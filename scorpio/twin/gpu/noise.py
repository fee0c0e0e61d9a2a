"""How much do real steps scatter? Lognormal jitter and rare stalls, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """sigma: of log step time (0.03 = 3 %), mean one. A stall hits one step in 1/probability and
    adds an exponential time of mean `stall_mean_s` (page faults, other tenants, clock drops).
    From `shift_at_s` on every step takes `shift_factor` times as long (a throttled clock)."""

    sigma: float = 0.03
    stall_probability: float = 1e-4
    stall_mean_s: float = 0.05
    shift_at_s: float = math.inf
    shift_factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigma <= 1.0:
            raise ValueError(f"sigma must be in [0, 1], got {self.sigma!r}")
        if not 0.0 <= self.stall_probability <= 1.0:
            raise ValueError(f"stall_probability must be in [0, 1], got {self.stall_probability!r}")
        if not 0.0 <= self.stall_mean_s < float("inf"):
            raise ValueError(f"stall_mean_s must be finite and >= 0, got {self.stall_mean_s!r}")
        if not 0.0 < self.shift_factor < 100.0:
            raise ValueError(f"shift_factor must be in (0, 100), got {self.shift_factor!r}")


NO_NOISE = NoiseSpec(0.0, 0.0, 0.0)


class StepNoise:
    """A seeded stream of (factor, added seconds), one pair per step."""

    def __init__(self, spec: NoiseSpec, seed: int) -> None:
        self._spec = spec
        self._rng = np.random.default_rng([seed, 0x7717])
        self._factors: list[float] = []
        self._stalls: list[float] = []

    def apply(self, step_s: float, start_s: float = 0.0) -> float:
        """The noisy duration of a step that begins at `start_s` and whose mean is `step_s`."""
        if not self._factors:
            self._refill()
        if start_s >= self._spec.shift_at_s:
            step_s *= self._spec.shift_factor
        return step_s * self._factors.pop() + self._stalls.pop()

    def _refill(self) -> None:
        spec, rng = self._spec, self._rng
        jitter = spec.sigma * rng.standard_normal(_CHUNK) - 0.5 * spec.sigma**2
        hit = rng.random(_CHUNK) < spec.stall_probability
        self._factors = np.exp(jitter).tolist()
        self._stalls = (rng.exponential(spec.stall_mean_s, _CHUNK) * hit).tolist()
