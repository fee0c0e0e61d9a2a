"""What is simulated? One frozen value that, with a load, a policy and a seed, fixes a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scorpio.core.latency import LatencyProfile
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.clients import ClientSpec
from scorpio.twin.gpu.drafter import Drafter
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.gpu.step_models import GpuModel
from scorpio.twin.length_hint import LengthHint


@dataclass(frozen=True, slots=True)
class TwinConfig:
    """The modelled engine and what its policies may know.

    profile: the policies' own view of speed; None = fitted from noisy samples of `gpu`, as
        `scorpio profile` would do on the machine itself. profile_bias multiplies it (1.1 = the
        policy thinks that everything takes 10 % longer).
    exact_max_tokens: requests carry max_tokens = their true output length, as benchmarks with
        `ignore_eos` do. It gives the length away to every policy, so the default hides it: the
        request asks for `max_tokens` and the model stops by itself.
    drafter: of an engine that drafts (see `drafting`).
    log_decisions: note what each request met, for `scorpio explain`; it changes nothing else.
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
    log_decisions: bool = False
    clients: ClientSpec = field(default_factory=ClientSpec)
    drafter: Drafter | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.profile_bias < 100.0:
            raise ValueError(f"profile_bias must be in (0, 100), got {self.profile_bias!r}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be >= 1, got {self.max_tokens}")

    def drafting(self, drafter: Drafter) -> TwinConfig:
        """The same engine with this drafter."""
        engine = replace(self.engine, num_speculative_tokens=drafter.drafts)
        return replace(self, gpu=drafter.slower(self.gpu), engine=engine, drafter=drafter)
