"""What do two ways to serve the same requests differ by, class by class, and how far is the twin
from what happened? Intervals are those of comparisons: blocks of requests, and seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scorpio.studies.recorded.runs import Runs
from workloads.results.intervals import Interval, mean_interval
from workloads.results.records import RequestRecord
from workloads.targets import ALL, class_of

_LEAST_TIMES = 20  # requests behind a percentile


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """Attainment of one class, each as a share of its requests. gain: after - before, paired by
    request; None where either is not there."""

    name: str
    requests: int
    before: Interval | None
    after: Interval
    gain: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TimeError:
    """One statistic of TTFT or TPOT, in ms, over requests that were served in both. error: of the
    twin, as a share of the real one."""

    metric: str
    real_ms: float
    twin_ms: float

    @property
    def error(self) -> float:
        """Relative."""
        return self.twin_ms / self.real_ms - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "error": self.error}


def class_answers(
    before: Runs, after: Runs, only: Collection[int] | None = None
) -> list[ClassAnswer]:
    """All requests, then class by class, by name. before: what happened is one run. only: indices
    to look at; requests that `before` does not have are a class of their own.

    With fewer runs on one side than on the other, each of the many is paired with the first.
    """
    names: dict[str, list[int]] = {ALL: []}
    known = {record.index for record in before[0]}
    for record in after[0]:
        if only is not None and record.index not in only:
            continue
        if record.index in known:
            names[ALL].append(record.index)
        names.setdefault(class_of(record.slo_class), []).append(record.index)
    first, *others = names
    good_before = [_good(run) for run in before]
    good_after = [_good(run) for run in after]
    return [
        _answer(name, names[name], good_before, good_after)
        for name in (first, *sorted(others))
        if names[name]
    ]


def time_errors(
    real: Sequence[RequestRecord], twin: Runs, only: Collection[int]
) -> list[TimeError]:
    """Mean and percentiles of TTFT and TPOT; nothing where too few were served in both."""
    found = []
    for name, of in (("TTFT", _ttft_s), ("TPOT", _tpot_s)):
        ours, theirs = _pairs(real, twin, only, of)
        if len(ours) < _LEAST_TIMES:
            continue
        for statistic, take in _STATISTICS.items():
            real_ms, twin_ms = take(ours) * 1000.0, take(theirs) * 1000.0
            if real_ms > 0.0:
                found.append(TimeError(f"{name} {statistic}", real_ms, twin_ms))
    return found


def majority(runs: Runs, is_so: Callable[[RequestRecord], bool]) -> set[int]:
    """Indices of requests of which it is so in more than half of the runs."""
    counts: dict[int, int] = {}
    for run in runs:
        for record in run:
            counts[record.index] = counts.get(record.index, 0) + is_so(record)
    return {index for index, count in counts.items() if 2 * count > len(runs)}


_STATISTICS: Mapping[str, Callable[[np.ndarray[Any, Any]], float]] = {
    "mean": lambda values: float(values.mean()),
    "p50": lambda values: float(np.percentile(values, 50)),
    "p90": lambda values: float(np.percentile(values, 90)),
    "p99": lambda values: float(np.percentile(values, 99)),
}


def _answer(
    name: str,
    indices: Sequence[int],
    before: Sequence[Mapping[int, bool]],
    after: Sequence[Mapping[int, bool]],
) -> ClassAnswer:
    then = [[float(run[i]) for i in indices] for run in after]
    if indices[0] not in before[0]:
        return ClassAnswer(name, len(indices), None, mean_interval(then), None)
    now = [[float(run[i]) for i in indices] for run in before]
    gains = [
        np.asarray(then[min(n, len(then) - 1)]) - np.asarray(now[min(n, len(now) - 1)])
        for n in range(max(len(then), len(now)))
    ]
    whole = mean_interval(now), mean_interval(then), mean_interval(gains)
    return ClassAnswer(name, len(indices), *whole)


def _good(run: Sequence[RequestRecord]) -> dict[int, bool]:
    return {record.index: record.good for record in run}


def _pairs(
    real: Sequence[RequestRecord],
    twin: Runs,
    only: Collection[int],
    of: Callable[[RequestRecord], float | None],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    known = {record.index: of(record) for record in real if record.index in only}
    pairs = list(_both(known, twin, of))
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def _both(
    known: Mapping[int, float | None], twin: Runs, of: Callable[[RequestRecord], float | None]
) -> Iterator[tuple[float, float]]:
    for run in twin:
        for record in run:
            ours, theirs = known.get(record.index), of(record)
            if ours is not None and theirs is not None:
                yield ours, theirs


def _ttft_s(record: RequestRecord) -> float | None:
    return record.ttft_s


def _tpot_s(record: RequestRecord) -> float | None:
    return record.tpot_s
