"""How many replicas keep the target share of promises on this load? `scorpio plan`.

Ideal routing is assumed and stated: requests are dealt round robin in order of arrival, so each
replica gets every n-th one of the same trace. Every replica of a fleet is simulated, none is
scaled up from another. A router that looks at the replicas' queues can do better, one with
stickiness worse.

Each fleet serves the trace and other traffic drawn from it (workloads/resampled.py), so that the
interval speaks of the traffic and not of the noise alone. A fleet that surely falls short on the
trace itself is not asked for more. Where one replica does not surely do, requests of the trace are
served alone, one after the other: what an idle replica cannot keep, no number of them will.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorpio.studies.compare import Progress
from scorpio.studies.compare_spec import CompareSpec
from scorpio.twin.clients import ClientSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import Task, run_jobs
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.resampled import resampled
from workloads.results.intervals import Interval
from workloads.results.records import Outcome, RequestRecord
from workloads.results.replicas import (
    FleetCurve,
    FleetPoint,
    Verdict,
    check_search,
    next_fleet,
    split_round_robin,
)
from workloads.results.traffic import traffic_interval
from workloads.results.windows import grouped, windows_of
from workloads.slo_changes import SloChange, changed
from workloads.targets import Targets

ROUTING = "round robin in order of arrival"
_REPLICA_STREAM = 10_007  # noise and predictions differ from replica to replica,
_DRAW_STREAM = 1_000_003  # and from draw to draw
DRAWS = 5
MOST_ALONE = 300
Fleet = tuple[str, int]  # policy and replicas
Points = dict[int, FleetPoint]  # of one policy, by replicas
Runs = list[list[RequestRecord]]  # one list of records for each traffic
_APART_S = 86_400.0  # virtual time costs nothing


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a fleet is sent: a load, or a draw from it (0: as it is), with changed promises."""

    load: LoadKey
    draw: int = 0
    changes: tuple[SloChange, ...] = ()

    @property
    def seed(self) -> int:
        """Of noise and predictions."""
        return self.load.seed + _DRAW_STREAM * self.draw

    def requests(self) -> list[WorkloadRequest]:
        """In order of arrival."""
        promised = changed(self.load.requests(), self.changes)
        return resampled(promised, self.load.seed, self.draw)


@dataclass(frozen=True, slots=True)
class FleetSearch:
    """`load` says what is served and how, as for a comparison, at one rate scale. draws: how many
    times, each with other traffic. changes: of what the load promises."""

    load: CompareSpec
    targets: Targets
    max_replicas: int = 64
    draws: int = DRAWS
    changes: tuple[SloChange, ...] = ()

    def check(self) -> None:
        """Raises WorkloadError (one line) for whatever could only fail later."""
        check_search(self.max_replicas, self.draws, self.load.rate_scales)
        self.load.check()
        self.targets.check(self.traffic()[0].requests())

    def traffic(self) -> list[Traffic]:
        """All of it; the first is the trace as it is."""
        loads = self.load.workloads()
        return [Traffic(load, n, self.changes) for n in range(self.draws) for load in loads]

    def limit(self) -> int:
        """More replicas than requests, or than clients of a closed loop, change nothing."""
        requests = len(self.load.workloads()[0].requests())
        return min(self.max_replicas, requests, self.load.clients.clients or requests)


@dataclass(frozen=True, slots=True)
class ReplicaJob:
    """One replica's share of some traffic under one policy."""

    config: TwinConfig
    traffic: Traffic
    policy: str
    replica: int
    replicas: int

    @property
    def label(self) -> str:
        """For progress and errors."""
        return f"{self.policy}, replica {self.replica + 1} of {self.replicas}"

    def run(self) -> list[RequestRecord]:
        """Serve the share; empty when there are more replicas than requests."""
        requests = self.traffic.requests()
        mine = split_round_robin(len(requests), self.replicas)[self.replica]
        if not mine:
            return []
        seed = self.traffic.seed + _REPLICA_STREAM * self.replica
        config = replace(self.config, clients=self._clients())
        return run_twin(config, [requests[i] for i in mine], self.policy, seed).records

    def _clients(self) -> ClientSpec:
        """Those of a closed loop are dealt to the replicas in turn, and stay."""
        spec = self.config.clients
        if not spec.clients:
            return spec
        mine = split_round_robin(spec.clients, self.replicas)[self.replica]
        return replace(spec, clients=len(mine))


@dataclass(frozen=True, slots=True)
class AloneJob:
    """Requests of some traffic, each with a replica to itself: MOST_ALONE of them, evenly taken;
    all where prompts share prefixes, for then what came before belongs to it."""

    config: TwinConfig
    traffic: Traffic
    policy: str

    @property
    def label(self) -> str:
        """For progress and errors."""
        return f"{self.policy}, requests alone"

    def run(self) -> list[RequestRecord]:
        """Serve them one after the other."""
        requests = self.traffic.requests()
        step = 1 if self.config.engine.enable_prefix_caching else -(-len(requests) // MOST_ALONE)
        apart = [replace(r, send_s=_APART_S * n) for n, r in enumerate(requests[::step])]
        return run_twin(self.config, apart, self.policy, self.traffic.seed).records


def search_fleets(spec: FleetSearch, progress: Progress | None = None) -> list[FleetCurve]:
    """Search the smallest sufficient fleet of every policy.

    Raises:
        WorkloadError: unknown name or malformed trace.
        JobFailed: a run died.
    """
    spec.check()
    curves: dict[str, Points] = {policy: {} for policy in spec.load.policies}
    measure = _Measuring(spec, progress)
    first, *others = spec.traffic()
    idle: dict[str, Mapping[str, Interval]] = {}
    while wanted := _wanted(curves, idle, spec):
        runs = measure(wanted, [first])
        points = {fleet: fleet_point(fleet[1], made) for fleet, made in runs.items()}
        open_ones = [fleet for fleet in wanted if not points[fleet].hopeless(spec.targets)]
        for fleet, made in measure(open_ones, others).items():
            points[fleet] = fleet_point(fleet[1], runs[fleet] + made)
        for (policy, replicas), point in points.items():
            curves[policy][replicas] = point
        idle |= measure.alone(_short_with_one(points, spec.targets), first)
    return [_curve(policy, curve, idle, spec) for policy, curve in curves.items()]


def _curve(
    policy: str, points: Points, idle: Mapping[str, Mapping[str, Interval]], spec: FleetSearch
) -> FleetCurve:
    measured = tuple(points[n] for n in sorted(points))
    return FleetCurve(policy, measured, spec.targets, idle.get(policy, {}))


def _short_with_one(points: Mapping[Fleet, FleetPoint], targets: Targets) -> list[str]:
    return [
        policy
        for (policy, replicas), point in points.items()
        if replicas == 1 and point.verdict(targets) is not Verdict.SURE
    ]


class _Measuring:
    """Serves traffic with fleets, and tells how far it is."""

    def __init__(self, spec: FleetSearch, progress: Progress | None) -> None:
        self._spec, self._progress = spec, progress
        self._config = spec.load.config()
        self._done = self._planned = self._fleets = 0

    def __call__(self, fleets: Sequence[Fleet], traffic: Sequence[Traffic]) -> dict[Fleet, Runs]:
        jobs = [
            ReplicaJob(self._config, one, policy, replica, replicas)
            for policy, replicas in fleets
            for one in traffic
            for replica in range(replicas)
        ]
        results = iter(self._run(jobs))
        found = {fleet: [_whole(results, fleet[1]) for _ in traffic] for fleet in fleets}
        self._fleets += len(found)
        return found

    def alone(self, policies: Sequence[str], traffic: Traffic) -> dict[str, dict[str, Interval]]:
        """Of all and of each class, what an idle replica makes of them."""
        made = self._run([AloneJob(self._config, traffic, policy) for policy in policies])
        return {
            policy: {name: traffic_interval([good]) for name, good in grouped(records).items()}
            for policy, records in zip(policies, made, strict=True)
        }

    def _run(self, jobs: Sequence[Task[list[RequestRecord]]]) -> Runs:
        self._planned += len(jobs)
        return run_jobs(jobs, self._spec.load.workers, self._ended)

    def _ended(self, _number: int, _records: list[RequestRecord]) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._planned, f"{self._fleets} fleets measured")


def _whole(results: Iterator[list[RequestRecord]], replicas: int) -> list[RequestRecord]:
    return [record for _ in range(replicas) for record in next(results)]


def _wanted(
    curves: Mapping[str, Points], idle: Mapping[str, Mapping[str, Interval]], spec: FleetSearch
) -> list[Fleet]:
    """The next fleet of every policy that is not done yet; none where none is enough."""
    wanted = []
    for policy, curve in curves.items():
        if _curve(policy, curve, idle, spec).out_of_reach:
            continue
        enough = {n: p.verdict(spec.targets) is Verdict.SURE for n, p in curve.items()}
        fleet = next_fleet(enough, spec.limit())
        if fleet is not None:
            wanted.append((policy, fleet))
    return wanted


def fleet_point(replicas: int, runs: Sequence[Sequence[RequestRecord]]) -> FleetPoint:
    """One fleet over all its traffic; the first run is the trace as it is."""
    ordered = [sorted(records, key=lambda r: (r.scheduled_send_s, r.index)) for records in runs]
    rejected = [record.outcome is Outcome.REJECTED for records in ordered for record in records]
    sent_s = [[record.send_s for record in records] for records in ordered]
    spans_s = [max(times) - min(times) for times in sent_s]
    rates = [len(r) / s for r, s in zip(ordered, spans_s, strict=True) if s > 0.0]
    parts = [grouped(records) for records in ordered]
    names = dict.fromkeys(name for part in parts for name in part)
    return FleetPoint(
        replicas=replicas,
        rps_per_replica=float(np.mean(rates)) / replicas if rates else 0.0,
        groups={name: traffic_interval([part.get(name, []) for part in parts]) for name in names},
        rejected_share=float(np.mean(rejected)),
        windows=windows_of(ordered[0]),
    )
