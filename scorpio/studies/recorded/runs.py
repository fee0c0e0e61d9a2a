"""What does the twin make of recorded traffic? The same requests on the same engine, under the
policy that served them or under another, some times over with other noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.studies.compare import Progress
from scorpio.studies.recorded.traffic import Recorded, as_measured
from scorpio.twin.config import TwinConfig
from scorpio.twin.fidelity.calibrate import calibrate
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.gpu.step_models import OF_TABLES, GpuModel
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.pool import run_jobs
from scorpio.twin.run import run_twin
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome, RequestRecord

MOST_FITTED = 300  # requests: each step of a fit serves them all
Runs = list[list[RequestRecord]]  # one list of records for each seed, in order of index


@dataclass(frozen=True, slots=True)
class Served:
    """One way to serve some requests: on which engine, under which policy."""

    name: str
    requests: tuple[WorkloadRequest, ...]
    policy: str
    options: Mapping[str, float] = field(default_factory=dict)
    gpu: GpuModel | None = None  # None = the recorded one
    engine: EngineSpec | None = None  # likewise


@dataclass(frozen=True, slots=True)
class _Job:
    config: TwinConfig
    requests: tuple[WorkloadRequest, ...]
    policy: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.policy}, seed {self.seed}"

    def run(self) -> list[RequestRecord]:
        return run_twin(self.config, self.requests, self.policy, self.seed).records


def fitted(traffic: Recorded) -> Recorded:
    """With a GPU model, where there is none yet: of the same kind as the nearest one that is known,
    its own profile's among them, with the speed of the ledger's first answers."""
    if traffic.gpu is not None:
        return traffic
    first = [
        record
        for record in traffic.real[:MOST_FITTED]
        if record.outcome is Outcome.FINISHED and record.tpot_s is not None
    ]
    requests = [traffic.requests[record.index] for record in first]
    log = EngineLog(traffic.place, requests, first, {})
    known = [*OF_TABLES]
    if traffic.profile is not None:
        known.append(as_measured(traffic.profile, traffic.engine))
    found = calibrate(log, traffic.engine, known, free="auto", fitted_share=1.0)
    gpu = replace(found.gpu, name="as fitted", kv_blocks=traffic.engine.num_blocks)
    return replace(traffic, gpu=gpu)


def run_all(
    traffic: Recorded,
    ways: Sequence[Served],
    seeds: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Runs]:
    """The records of each way, for each seed.

    Raises:
        JobFailed: a run died.
    """
    jobs = [
        _Job(_config(traffic, way), way.requests, way.policy, seed)
        for way in ways
        for seed in range(seeds)
    ]
    done = 0

    def ended(number: int, _records: list[RequestRecord]) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(jobs), ways[number // seeds].name)

    found = run_jobs(jobs, workers, ended)
    return [found[at : at + seeds] for at in range(0, len(found), seeds)]


def _config(traffic: Recorded, way: Served) -> TwinConfig:
    """What policies know is what the server's knew: its profile, its predictions of lengths."""
    gpu = way.gpu or traffic.gpu
    assert gpu is not None, "fitted before"
    return TwinConfig(
        gpu,
        way.engine or traffic.engine,
        lengths=LengthHint(None),
        profile=traffic.profile if way.gpu is None else None,
        policy_options={way.policy: way.options},
    )
