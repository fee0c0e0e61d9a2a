"""What would another policy have done with yesterday's traffic? `scorpio shadow-report`.

Three answers side by side. What happened is the ledger's. What the shadow said while it watched is
in the ledger too, but of states that the serving policy made. What would have come of it is the
twin's: the recorded requests under the recorded policy, which shows how far the twin is from what
happened, and under the shadow's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scorpio.ledger.entry import ShadowVerdict
from scorpio.ledger.find import body_of, printable
from scorpio.studies.compare import Progress
from scorpio.studies.recorded.answers import (
    ClassAnswer,
    TimeError,
    class_answers,
    majority,
    time_errors,
)
from scorpio.studies.recorded.runs import Runs, Served, fitted, run_all
from scorpio.studies.recorded.traffic import Recorded
from workloads.results.records import Outcome, RequestRecord
from workloads.targets import class_of

_LATER = 1.1  # a first token that comes so many times as late, and by so much, is delayed
_LATER_S = 0.05


@dataclass(frozen=True, slots=True)
class ForecastError:
    """What the shadow expected of first tokens, against those that came under the serving policy.
    typical and p90: of |forecast - real| / real; bias: the mean of forecast / real - 1."""

    of: str
    requests: int
    typical: float
    p90: float
    bias: float


@dataclass(frozen=True, slots=True)
class Fate:
    """One request: what happened, what the shadow said, what the twin expects of it.

    happened, then: good, late or refused, as it was and as the twin expects it with the shadow.
    would: refused, delayed, saved, lost, or two of them; "" = as it was.
    """

    id: str
    slo_class: str
    happened: str
    said: str
    reason: str
    then: str
    would: str


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """answers: twin under the recorded policy (before) and the shadow's (after). error: what
    happened (before) and the twin of it (after). said: verdicts of the shadow, by class."""

    traffic: Recorded
    shadow: str
    options: Mapping[str, float]
    seeds: int
    answers: Sequence[ClassAnswer]
    error: Sequence[ClassAnswer]
    times: Sequence[TimeError]
    forecasts: Sequence[ForecastError]
    said: Mapping[str, Mapping[str, int]]
    fates: Sequence[Fate] = field(default=())

    def counts(self, name: str | None = None) -> Counter[str]:
        """How many would have been refused, delayed, saved, lost; of a class, or all."""
        mine = (fate for fate in self.fates if name in (None, fate.slo_class))
        return Counter(word for fate in mine for word in fate.would.split())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "ledger": self.traffic.place,
            "span": self.traffic.span,
            "policy": self.traffic.policy,
            "shadow": self.shadow,
            "shadow_options": dict(self.options),
            "gpu": "" if self.traffic.gpu is None else self.traffic.gpu.source,
            "engine": asdict(self.traffic.engine),
            "requests": len(self.traffic.requests),
            "compared": len(self.traffic.compared),
            "seeds": self.seeds,
            "attainment": [answer.to_dict() for answer in self.answers],
            "twin_error": [answer.to_dict() for answer in self.error],
            "time_error": [row.to_dict() for row in self.times],
            "forecast_error": [asdict(row) for row in self.forecasts],
            "said": {name: dict(counts) for name, counts in self.said.items()},
            "would": dict(self.counts()),
        }


def shadow_report(
    traffic: Recorded,
    shadow: str,
    options: Mapping[str, float],
    seeds: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ShadowReport:
    """Serve the recorded requests in the twin, under both policies.

    Raises:
        JobFailed: a run died.
    """
    traffic = fitted(traffic)
    ways = [
        Served("as it was", traffic.requests, traffic.policy, traffic.options),
        Served("with the shadow", traffic.requests, shadow, options),
    ]
    twin, other = run_all(traffic, ways, seeds, workers, progress)
    only = traffic.compared
    return ShadowReport(
        traffic,
        shadow,
        options,
        seeds,
        answers=class_answers(twin, other, only),
        error=class_answers([list(traffic.real)], twin, only),
        times=time_errors(traffic.real, twin, only),
        forecasts=_forecasts(traffic),
        said=_said(traffic),
        fates=_fates(traffic, twin, other),
    )


def _said(traffic: Recorded) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for entry, request in zip(traffic.entries, traffic.requests, strict=True):
        word = ShadowVerdict.NONE.value if entry.shadow is None else entry.shadow.verdict
        found.setdefault(class_of(request.slo_class), Counter())[word] += 1
    return {name: dict(found[name]) for name in sorted(found)}


def _forecasts(traffic: Recorded) -> list[ForecastError]:
    groups: dict[str, list[tuple[float, float]]] = {"all that it let in": []}
    for entry in traffic.entries:
        word, came_ms = entry.shadow, entry.first_token_ms
        if word is None or word.forecast_ttft_ms is None or not came_ms:
            continue
        pair = (word.forecast_ttft_ms, came_ms)
        groups["all that it let in"].append(pair)
        if word.verdict == ShadowVerdict.SAME.value:
            groups.setdefault("started in the same step", []).append(pair)
    found = []
    for name, pairs in groups.items():
        if pairs:
            ratio = np.array([told / came for told, came in pairs])
            off = np.abs(ratio - 1.0)
            typical, p90 = (float(v) for v in np.percentile(off, (50, 90)))
            found.append(ForecastError(name, len(pairs), typical, p90, float(ratio.mean() - 1.0)))
    return found


def _fates(traffic: Recorded, twin: Runs, other: Runs) -> list[Fate]:
    refused = majority(other, lambda r: r.outcome is Outcome.REJECTED)
    was, would_be = (majority(runs, lambda r: r.good) for runs in (twin, other))
    later = _delayed(twin, other)
    found = []
    for entry, record in zip(traffic.entries, traffic.real, strict=True):
        index = record.index
        if index not in traffic.compared:
            continue
        words = {
            "refused": index in refused,
            "delayed": index in later,
            # only where twin and ledger agree on what happened
            "saved": not record.good and index not in was and index in would_be,
            "lost": record.good and index in was and index not in would_be,
        }
        word = entry.shadow
        found.append(
            Fate(
                id=printable(body_of(entry.id)),
                slo_class=class_of(record.slo_class),
                happened=_happened(record),
                said="" if word is None else word.verdict,
                reason="" if word is None else word.reason,
                then="refused" if index in refused else "good" if index in would_be else "late",
                would=" ".join(name for name, so in words.items() if so),
            )
        )
    return found


def _happened(record: RequestRecord) -> str:
    if record.outcome is Outcome.REJECTED:
        return "refused"
    return "good" if record.good else "late"


def _delayed(twin: Runs, other: Runs) -> set[int]:
    """Served, but with a first token that comes later by more than noise."""
    before, after = _middle_ttft_s(twin), _middle_ttft_s(other)
    return {
        index
        for index, ttft_s in after.items()
        if index in before and ttft_s > max(before[index] * _LATER, before[index] + _LATER_S)
    }


def _middle_ttft_s(runs: Runs) -> dict[int, float]:
    times: dict[int, list[float]] = {}
    for run in runs:
        for record in run:
            if record.ttft_s is not None:
                times.setdefault(record.index, []).append(record.ttft_s)
    return {index: float(np.median(values)) for index, values in times.items()}
