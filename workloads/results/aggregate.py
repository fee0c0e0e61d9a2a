"""What does a policy achieve at one load, over all seeds? One LoadPoint each.

Void runs take no part. Differences between policies are paired: same trace, same seed, same
requests, so what both find hard cancels out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

import numpy as np

from workloads.load import LoadKey
from workloads.results.fairness import Fairness, fairness
from workloads.results.intervals import Interval, mean_interval
from workloads.results.policy_order import BASELINE, TUNED, policy_order
from workloads.results.records import RequestRecord
from workloads.results.run_summary import RunSummary


class Scenario(NamedTuple):
    """What must be equal for two numbers to be compared."""

    engine: str
    gpu: str
    trace: str
    mix: str


class TimelineSample(TypedDict):
    """The engine at one moment of a run."""

    t_s: float
    waiting: int
    running: int
    kv_used_fraction: float
    rejected_total: int


@dataclass(frozen=True, slots=True)
class Run:
    """A summary with what it was made from (records without their token times)."""

    summary: RunSummary
    records: Sequence[RequestRecord]
    timeline: Sequence[TimelineSample] = ()

    @property
    def scenario(self) -> Scenario:
        """What this run can be compared within."""
        s = self.summary
        return Scenario(s.engine, s.gpu, s.trace, s.mix)

    @property
    def ordered(self) -> list[RequestRecord]:
        """The records in arrival order."""
        return sorted(self.records, key=lambda r: (r.scheduled_send_s, r.index))

    @property
    def good_flags(self) -> list[float]:
        """1.0 for each good request, in arrival order."""
        return [float(record.good) for record in self.ordered]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One policy at one load. Shares are 0..1; None means not defined, or no valid run.

    gain: attainment minus the baseline's, paired. ratios: goodput / that policy's goodput.
    of_bound: good requests / what a clairvoyant policy could at most have served well.
    """

    scenario: Scenario
    policy: str
    rate_scale: float
    offered_rps: float | None
    runs: tuple[Run, ...]
    void_runs: int
    attainment: Interval | None
    goodput_rps: Interval | None
    rejected_share: float | None
    gain: Interval | None
    failed_share: float | None = None
    ratios: Mapping[str, float | None] = field(default_factory=dict)
    bound_attainment: float | None = None
    of_bound: float | None = None
    fairness: Fairness | None = None


def load_points(
    runs: Iterable[Run], bounds: Mapping[LoadKey, int] | None = None
) -> list[LoadPoint]:
    """All points, ordered by scenario, load, policy."""
    cells: dict[tuple[Scenario, float, str], list[Run]] = {}
    for run in runs:
        key = (run.scenario, run.summary.rate_scale, run.summary.policy)
        cells.setdefault(key, []).append(run)
    order = sorted(cells, key=lambda key: (key[0], key[1], policy_order(key[2])))
    valid = {key: [run for run in cells[key] if not run.summary.void] for key in order}
    points = []
    for key in order:
        scenario, rate_scale, policy = key
        rivals = {name: valid.get((scenario, rate_scale, name), []) for name in (BASELINE, TUNED)}
        used = valid[key]
        bound, of_bound = _against_bound(used, bounds or {})
        points.append(
            LoadPoint(
                scenario=scenario,
                policy=policy,
                rate_scale=rate_scale,
                offered_rps=_mean([run.summary.offered_rps for run in cells[key]]),
                runs=tuple(used),
                void_runs=len(cells[key]) - len(used),
                attainment=mean_interval([run.good_flags for run in used]) if used else None,
                goodput_rps=_goodput(used),
                rejected_share=_mean([1.0 - run.summary.admitted_share for run in used]),
                failed_share=_mean([run.summary.unanswered / run.summary.sent for run in used]),
                gain=None if policy == BASELINE else _gain(used, rivals[BASELINE]),
                ratios={name: _ratio(used, rivals[name]) for name in rivals if name != policy},
                bound_attainment=bound,
                of_bound=of_bound,
                fairness=fairness(record for run in used for record in run.records),
            )
        )
    return points


def paired_gain(
    pairs: Iterable[tuple[Sequence[RequestRecord], Sequence[RequestRecord]]],
) -> Interval:
    """Attainment of the first minus the second of each pair of runs, request by request.

    Raises:
        ValueError: the two runs of a pair did not send the same requests.
    """
    differences = []
    for ours, theirs in pairs:
        left, right = (
            {_identity(record): record.good for record in side} for side in (ours, theirs)
        )
        if left.keys() != right.keys():
            raise ValueError("paired runs must have sent the same requests at the same times")
        ordered = sorted(left, key=lambda identity: identity[::-1])
        differences.append([float(left[key]) - float(right[key]) for key in ordered])
    return mean_interval(differences)


def gain_over(ours: LoadPoint, rival: LoadPoint) -> Interval | None:
    """Attainment of one point minus another's, paired; None when they share no run."""
    return _gain(ours.runs, rival.runs)


def _identity(record: RequestRecord) -> tuple[int, float]:
    return record.index, round(record.scheduled_send_s, 9)


def _gain(ours: Sequence[Run], theirs: Sequence[Run]) -> Interval | None:
    pairs = [(run.records, rival.records) for run, rival in _matched(ours, theirs)]
    return paired_gain(pairs) if pairs else None


def _ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float | None:
    """Ratio of good requests on the runs both have: same window, so the ratio of goodput too."""
    pairs = _matched(ours, theirs)
    rival_good = sum(rival.summary.good for _, rival in pairs)
    return sum(run.summary.good for run, _ in pairs) / rival_good if rival_good else None


def _matched(ours: Sequence[Run], theirs: Sequence[Run]) -> list[tuple[Run, Run]]:
    rivals = {(run.summary.seed, run.summary.repeat): run for run in theirs}
    keys = [(run.summary.seed, run.summary.repeat) for run in ours]
    return [(run, rivals[key]) for run, key in zip(ours, keys, strict=True) if key in rivals]


def _goodput(runs: Sequence[Run]) -> Interval | None:
    if not runs or any(run.summary.offered_rps is None for run in runs):
        return None
    return mean_interval(
        [np.asarray(run.good_flags) * (run.summary.offered_rps or 0.0) for run in runs]
    )


def _against_bound(
    runs: Sequence[Run], bounds: Mapping[LoadKey, int]
) -> tuple[float | None, float | None]:
    summaries = [run.summary for run in runs]
    known = [(summary, bounds[summary.load]) for summary in summaries if summary.load in bounds]
    possible = sum(good for _, good in known)
    if not known or not possible:
        return None, None
    sent = sum(summary.sent for summary, _ in known)
    return possible / sent, sum(summary.good for summary, _ in known) / possible


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
