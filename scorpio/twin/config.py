"""What is simulated? One frozen value that, with a load, a policy and a seed, fixes a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scorpio.core.latency import LatencyProfile
from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.gpu.step_models import GpuModel

PREDICTORS = ("trained", "histogram", "constant", "adversarial")


@dataclass(frozen=True, slots=True)
class LengthHint:
    """What policies are told about output lengths: a predictor's word (scorpio/twin/predictions.py)
    or, without one, the truth times a lognormal error.

    sigma: of the log error; 0 = oracle, None = nothing is told. Errors are drawn per request
    from the run's seed, so all policies see the same predictions. bias multiplies them all.
    """

    sigma: float | None = 0.6
    predictor: str | None = None
    bias: float = 1.0

    def __post_init__(self) -> None:
        if self.sigma is not None and not 0.0 <= self.sigma <= 5.0:
            raise ValueError(f"length error must be in [0, 5], got {self.sigma!r}")
        if self.predictor not in (None, *PREDICTORS):
            raise ValueError(f"unknown predictor {self.predictor!r}")
        if not 0.0 < self.bias < 100.0:
            raise ValueError(f"length bias must be in (0, 100), got {self.bias!r}")

    @classmethod
    def parse(cls, text: str) -> LengthHint:
        """`none`, `oracle`, a predictor, or a number (sigma of the log error)."""
        if text in PREDICTORS:
            return cls(None, text)
        named = {"none": None, "oracle": 0.0}
        try:
            return cls(named[text] if text in named else float(text))
        except ValueError:
            names = ", ".join(("none", "oracle", *PREDICTORS))
            raise ValueError(f"length hint {text!r}: use {names} or a number 0..5") from None


@dataclass(frozen=True, slots=True)
class TwinConfig:
    """The modelled engine and what its policies may know.

    profile: the policies' own view of speed; None = fitted from noisy samples of `gpu`, as
        `scorpio profile` would do on the machine itself. profile_bias multiplies it (1.1 = the
        policy thinks that everything takes 10 % longer).
    exact_max_tokens: requests carry max_tokens = their true output length, as benchmarks with
        `ignore_eos` do. It gives the length away to every policy, so the default hides it: the
        request asks for `max_tokens` and the model stops by itself.
    never_refuse: indices of requests that are sent with on_miss `wait`, to see what a refusal cost.
    """

    gpu: GpuModel
    engine: EngineSpec = field(default_factory=EngineSpec)
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    lengths: LengthHint = field(default_factory=LengthHint)
    profile: LatencyProfile | None = None
    profile_bias: float = 1.0
    exact_max_tokens: bool = False
    max_tokens: int = 4096
    never_refuse: frozenset[int] = frozenset()
    policy_options: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    timeline_period_s: float = 1.0
    check_invariants: bool = False
    max_wait_s: float = math.inf
    keep_log: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.profile_bias < 100.0:
            raise ValueError(f"profile_bias must be in (0, 100), got {self.profile_bias!r}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be >= 1, got {self.max_tokens}")
