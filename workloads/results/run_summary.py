"""What is known about one run? Its identity, what the engine told, and its summary numbers.

`RunSummary.to_dict()` is one element of `runs` in summary.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from workloads.load import IN_RESULTS, LoadKey

Percentiles = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """What was run. Two runs of one policy that agree in all but `policy` are comparable."""

    policy: str
    engine: str
    gpu: str
    load: LoadKey
    repeat: int = 0

    def fields(self) -> dict[str, Any]:
        """As RunSummary and summary.json have it: the load's fields beside the others."""
        load = self.load
        return {
            **{name: getattr(self, name) for name in ("policy", "engine", "gpu", "repeat")},
            **{name: getattr(load, name) for name in IN_RESULTS},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What only the engine knows; None where it does not tell."""

    steps: int | None = None
    schedule_us: Mapping[str, float | None] | None = None
    wall_s: float = 0.0
    preemptions: int | None = None  # None: the sum over the records


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSummary:
    """One SLO class of a run; *_slo_ms is None where the class promises nothing."""

    sent: int
    good: int
    attainment: float
    rejected: int
    failed: int
    ttft_slo_ms: float | None
    tpot_slo_ms: float | None
    ttft_ms: Percentiles
    tpot_ms: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One element of `runs` in summary.json. None: not defined for this run.

    goodput_rps is undefined when all requests arrive at one instant. value_goodput is the same with
    each good request counted by the value of its class. TTFT percentiles are over
    requests that got a first token, TPOT over finished ones with two tokens or more.
    single_token: finished requests whose only promise is TTFT. rejection_ms: send to refusal.
    failed_by_error: of the failed and timed-out ones, the ten commonest texts. tries: how often
    requests were sent, those that were refused and came back each time; good_in_last_try: good,
    when the promises count from the last of them.
    """

    policy: str
    engine: str
    gpu: str
    trace: str
    mix: str
    rate_scale: float
    seed: int
    repeat: int
    offered_rps: float | None
    sent: int
    good: int
    attainment: float
    goodput_rps: float | None
    admitted: int
    admitted_share: float
    rejected: int
    rejected_by_reason: dict[str, int]
    failed: int
    timed_out: int
    violations: dict[str, int]
    by_class: dict[str, ClassSummary]
    single_token: dict[str, int]
    ttft_ms: Percentiles
    tpot_ms: Percentiles
    output_tokens_per_s: float | None
    preemptions: int
    steps: int | None
    schedule_us: Percentiles
    wall_s: float
    window_s: float
    duration_s: float
    rejection_ms: Percentiles
    client_lateness_ms: Percentiles
    void: bool
    void_reason: str | None = None
    records_file: str | None = None
    value_goodput: float | None = None
    failed_by_error: dict[str, int] = field(default_factory=dict)
    tries: int | None = None
    good_in_last_try: int | None = None

    @property
    def unanswered(self) -> int:
        """Requests that were neither served to the end nor refused."""
        return self.failed + self.timed_out

    @property
    def load(self) -> LoadKey:
        """The load of this run."""
        return LoadKey(self.trace, None, self.mix, self.rate_scale, self.seed)

    @property
    def key(self) -> RunKey:
        """The identity of this run."""
        return RunKey(
            policy=self.policy,
            engine=self.engine,
            gpu=self.gpu,
            load=self.load,
            repeat=self.repeat,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSummary:
        """The inverse of `to_dict`; fields it does not know are ignored."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        known["by_class"] = {
            name: ClassSummary(**entry) for name, entry in values["by_class"].items()
        }
        return cls(**known)
