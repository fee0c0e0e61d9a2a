"""How many replicas keep the target share of promises on this load? `scorpio plan`.

Ideal routing is assumed and stated: requests are dealt round robin in order of arrival, so each
replica gets every n-th one of the same trace. Every replica of a fleet is simulated, none is
scaled up from another. A router that looks at the replicas' queues can do better, one with
stickiness worse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from scorpio.files import write_atomic
from scorpio.studies.compare import Progress
from scorpio.studies.compare_spec import CompareSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import run_jobs
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.report.plots_replicas import replicas_plot
from workloads.results.intervals import mean_interval
from workloads.results.records import Outcome, RequestRecord
from workloads.results.replicas import (
    FleetCurve,
    FleetPoint,
    by_need,
    check_search,
    next_fleet,
    split_round_robin,
)

ROUTING = "round robin in order of arrival"
_REPLICA_STREAM = 10_007  # noise and predictions differ from replica to replica


@dataclass(frozen=True, slots=True)
class FleetSearch:
    """`load` says what is served and how, as for a comparison, at one rate scale."""

    load: CompareSpec
    target: float = 0.95
    max_replicas: int = 64

    def check(self) -> None:
        """Raises WorkloadError (one line) for whatever could only fail later."""
        check_search(self.target, self.max_replicas, self.load.rate_scales)
        self.load.check()


@dataclass(frozen=True, slots=True)
class ReplicaJob:
    """One replica's share of one load under one policy."""

    config: TwinConfig
    load: LoadKey
    policy: str
    replica: int
    replicas: int

    @property
    def label(self) -> str:
        """For progress and errors."""
        return f"{self.policy}, replica {self.replica + 1} of {self.replicas}"

    def run(self) -> list[RequestRecord]:
        """Serve the share; empty when there are more replicas than requests."""
        requests = self.load.requests()
        mine = split_round_robin(len(requests), self.replicas)[self.replica]
        if not mine:
            return []
        seed = self.load.seed + _REPLICA_STREAM * self.replica
        return run_twin(self.config, [requests[i] for i in mine], self.policy, seed).records


def search_fleets(spec: FleetSearch, progress: Progress | None = None) -> list[FleetCurve]:
    """Search the smallest sufficient fleet of every policy; plan.json and plan.png in `out_dir`.

    Raises:
        WorkloadError: unknown name or malformed trace; nothing has been written.
        JobFailed: a run died.
    """
    spec.check()
    load = spec.load
    config = load.config()
    curves: dict[str, dict[int, FleetPoint]] = {policy: {} for policy in load.policies}
    finished = planned = 0

    def ended(_number: int, _records: list[RequestRecord]) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, planned, f"{sum(map(len, curves.values()))} fleets measured")

    while wanted := _wanted(curves, spec):
        jobs = [
            ReplicaJob(config, workload, policy, replica, replicas)
            for policy, replicas in wanted
            for workload in load.workloads()
            for replica in range(replicas)
        ]
        planned += len(jobs)
        results = iter(run_jobs(jobs, load.workers, ended))
        for policy, replicas in wanted:
            fleets = [
                [record for _ in range(replicas) for record in next(results)] for _ in load.seeds
            ]
            curves[policy][replicas] = _point(replicas, fleets)
    plans = [
        FleetCurve(policy, tuple(curve[n] for n in sorted(curve)), spec.target)
        for policy, curve in curves.items()
    ]
    _write(spec, plans)
    return plans


def _wanted(curves: dict[str, dict[int, FleetPoint]], spec: FleetSearch) -> list[tuple[str, int]]:
    """The next fleet of every policy that is not done yet."""
    wanted = []
    for policy, curve in curves.items():
        measured = {n: point.attainment.mean for n, point in curve.items()}
        fleet = next_fleet(measured, spec.target, spec.max_replicas)
        if fleet is not None:
            wanted.append((policy, fleet))
    return wanted


def _point(replicas: int, fleets: Sequence[Sequence[RequestRecord]]) -> FleetPoint:
    """One fleet over all seeds. Requests in order of arrival: neighbours hang together."""
    ordered = [sorted(records, key=lambda r: (r.scheduled_send_s, r.index)) for records in fleets]
    rejected = [record.outcome is Outcome.REJECTED for records in ordered for record in records]
    spans_s = [records[-1].scheduled_send_s - records[0].scheduled_send_s for records in ordered]
    rates = [len(r) / s for r, s in zip(ordered, spans_s, strict=True) if s > 0.0]
    return FleetPoint(
        replicas=replicas,
        rps_per_replica=float(np.mean(rates)) / replicas if rates else 0.0,
        attainment=mean_interval([[float(r.good) for r in records] for records in ordered]),
        rejected_share=float(np.mean(rejected)),
    )


def _write(spec: FleetSearch, plans: Sequence[FleetCurve]) -> None:
    load = spec.load
    content = {
        "schema": 1,
        "gpu": load.gpu,
        "trace": load.trace,
        "rows": load.rows,
        "mix": load.mix,
        "rate_scale": load.rate_scales[0],
        "seeds": list(load.seeds),
        "lengths": asdict(load.lengths),
        "target": spec.target,
        "max_replicas": spec.max_replicas,
        "routing": ROUTING,
        "command": load.command,
        "plans": [plan.to_dict() for plan in by_need(plans)],
    }
    write_atomic(load.out_dir / "plan.json", json.dumps(content, indent=1) + "\n")
    where = f"{load.trace}, mix {load.mix}, ×{load.rate_scales[0]:g}, {load.gpu} (twin)"
    plot = replicas_plot(plans, spec.target, where)
    write_atomic(load.out_dir / f"{plot.name}.png", plot.png)
