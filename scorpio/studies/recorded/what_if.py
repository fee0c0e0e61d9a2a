"""What if the traffic or the engine were another? `scorpio what-if`, with how wrong the twin was.

Three runs of the twin on the engine of the ledger: of what happened, which says how far it is off;
of the traffic that is asked about, as it is; and of the same, changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scorpio.studies.compare import Progress
from scorpio.studies.recorded.answers import ClassAnswer, TimeError, class_answers, time_errors
from scorpio.studies.recorded.changes import Change
from scorpio.studies.recorded.runs import Served, fitted, run_all
from scorpio.studies.recorded.traffic import Recorded
from workloads.request import WorkloadRequest


@dataclass(frozen=True, slots=True)
class WhatIf:
    """answers: the twin of the traffic as it is (before), and changed (after). error, times: the
    twin of what happened, against what happened."""

    traffic: Recorded
    change: Change
    seeds: int
    answers: Sequence[ClassAnswer]
    error: Sequence[ClassAnswer]
    times: Sequence[TimeError]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "ledger": self.traffic.place,
            "span": self.traffic.span,
            "policy": self.traffic.policy,
            "what_if": self.change.told(),
            "gpu": "" if self.traffic.gpu is None else self.traffic.gpu.source,
            "engine": asdict(self.traffic.engine),
            "seeds": self.seeds,
            "attainment": [answer.to_dict() for answer in self.answers],
            "twin_error": [answer.to_dict() for answer in self.error],
            "time_error": [row.to_dict() for row in self.times],
        }


def what_if(
    traffic: Recorded,
    asked: Sequence[WorkloadRequest] | None,
    change: Change,
    seeds: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> WhatIf:
    """asked: the traffic that is asked about; None = the ledger's own.

    Raises:
        JobFailed: a run died.
    """
    traffic = fitted(traffic)
    base = traffic.requests if asked is None else tuple(asked)
    changed = tuple(change.requests(base))
    policy, options = traffic.policy, traffic.options
    ways = [Served("as it happened", traffic.requests, policy, options)]
    if asked is not None:
        ways.append(Served("as it is", base, policy, options))
    ways.append(_changed(traffic, change, changed))
    found = run_all(traffic, ways, seeds, workers, progress)
    return WhatIf(
        traffic,
        change,
        seeds,
        answers=class_answers(found[-2], found[-1], _answered(traffic, asked, changed)),
        error=class_answers([list(traffic.real)], found[0], traffic.compared),
        times=time_errors(traffic.real, found[0], traffic.compared),
    )


def _changed(traffic: Recorded, change: Change, requests: tuple[WorkloadRequest, ...]) -> Served:
    """Another policy has its default options."""
    policy, options = traffic.policy, traffic.options
    if change.policy is not None and change.policy != policy:
        policy, options = change.policy, {}
    return Served("what if", requests, policy, options, change.gpu, change.engine(traffic.engine))


def _answered(
    traffic: Recorded, asked: object, changed: Sequence[WorkloadRequest]
) -> frozenset[int] | None:
    """Of the ledger's own requests those with an end to answer for; of all others each."""
    if asked is not None:
        return None
    theirs = {request.index for request in traffic.requests} - traffic.compared
    return frozenset(request.index for request in changed) - theirs
