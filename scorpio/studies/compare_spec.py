"""What is compared? All that a comparison hangs on, in one value that needs no vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scorpio.core.latency import LatencyProfile
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.studies.tuning_space import TuneSpec, tuning_rows
from scorpio.twin.clients import ClientSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.file import gpu_model
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.modelled_engine import EngineOptions, modelled_engine
from scorpio.twin.systems import check_system, system_names
from workloads.errors import UnknownName, WorkloadError
from workloads.load import LoadKey, load_grid
from workloads.request import WorkloadRequest
from workloads.traces.reading import AS_IT_SAYS, Reading


@dataclass(frozen=True, slots=True)
class CompareSpec:
    """Everything the command line says; checked before anything is run or written.

    engine: flags of the modelled engine; None = as `modelled_engine` has them, changed by
    `engine_options`.
    profile, profile_bias, policy_options, exact_max_tokens, clients: see TwinConfig.
    bound: compute the clairvoyant bound of every load as well. tune: which policies run with the
    best of several settings, found on another part of the trace.
    log_decisions: keep what each request met, in DIR/decisions, for `scorpio explain`.
    """

    gpu: str
    trace: str
    mix: str
    rate_scales: tuple[float, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    out_dir: Path
    rows: str | None = None
    reading: Reading = AS_IT_SAYS
    bound: bool = False
    tune: TuneSpec | None = None
    log_decisions: bool = False
    engine: EngineSpec | None = None
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    lengths: LengthHint = field(default_factory=LengthHint)
    profile: LatencyProfile | None = None
    exact_max_tokens: bool = False
    workers: int | None = None
    command: str | None = None
    engine_options: EngineOptions = field(default_factory=dict)
    policy_options: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    profile_bias: float = 1.0
    clients: ClientSpec = field(default_factory=ClientSpec)

    def config(self) -> TwinConfig:
        """The engine to model. Raises WorkloadError."""
        engine = self.engine
        if engine is None:
            shared = _shares_prefixes(self.workloads()[0].requests())
            engine = modelled_engine(self.gpu, shared, self.engine_options)
        return TwinConfig(
            gpu_model(self.gpu),
            engine,
            self.noise,
            self.lengths,
            profile=self.profile,
            profile_bias=self.profile_bias,
            exact_max_tokens=self.exact_max_tokens,
            policy_options=self.policy_options,
            clients=self.clients,
            log_decisions=self.log_decisions,
        )

    def workloads(self) -> list[LoadKey]:
        """Every load, by rate scale and seed."""
        where = (self.trace, self.rows, self.mix)
        return load_grid(*where, self.rate_scales, self.seeds, self.reading)

    def tuning_loads(self) -> list[LoadKey]:
        """Of the part to tune on, with the first seed. Raises WorkloadError."""
        rows = tuning_rows(self.rows, None if self.tune is None else self.tune.rows)
        where = (self.trace, rows, self.mix)
        return load_grid(*where, self.rate_scales, self.seeds[:1], self.reading)

    def check(self) -> None:
        """Raises WorkloadError (one line) for whatever could only fail later."""
        for name in self.policies:
            if name not in system_names():
                raise UnknownName("policy", name, system_names())
        for what in ("policies", "rate_scales", "seeds"):
            values = getattr(self, what)
            if not values or len(set(values)) != len(values):
                raise WorkloadError(f"{what}: at least one, and none twice")
        if self.tune is not None:
            self.tune.check(self.policies, self.policy_options)
            loads = self.tuning_loads()
            try:
                for workload in loads:
                    workload.requests()
            except WorkloadError as error:
                raise WorkloadError(f"tune: {error}; --tune-rows names another part") from None
        for name, options in self.policy_options.items():
            try:
                check_system(name, options)
            except ValueError as error:
                raise WorkloadError(str(error)) from None
        for workload in self.workloads():
            workload.requests()
        self.config()


def _shares_prefixes(requests: Sequence[WorkloadRequest]) -> bool:
    first = [r.hash_ids[0] for r in requests if r.hash_ids]
    return len(set(first)) < len(first)
