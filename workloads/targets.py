"""Which share of the promises is to be kept, of all requests or class by class? `--target`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workloads.errors import UnknownName, WorkloadError
from workloads.request import WorkloadRequest
from workloads.results.traffic import share_interval

ALL = "all"  # all requests, whatever their class
NO_CLASS = "none"  # requests that name no class
_LEAST_PERCENT = 10.0  # less is a share that went wrong: 1.5


@dataclass(frozen=True, slots=True)
class Targets:
    """shares: in 0..1, by class; `ALL` for all requests together."""

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.shares:
            raise WorkloadError("target: at least one")
        for name, share in self.shares.items():
            if not 0.0 < share < 1.0:
                raise WorkloadError(f"target of {name} must be in (0, 1), got {share:g}")

    def __str__(self) -> str:
        return ", ".join(f"{100 * share:g} % of {name}" for name, share in self.shares.items())

    def check(self, requests: Sequence[WorkloadRequest]) -> None:
        """Can this load answer? Raises WorkloadError: a class that it does not have, or one of so
        few requests that no fleet could be told to reach the target."""
        counts = class_counts(requests)
        for name, share in self.shares.items():
            if name not in counts:
                raise UnknownName("class", name, counts)
            least = share_interval(1.0, counts[name])[0]
            if least < share:
                raise WorkloadError(
                    f"target of {name}: {counts[name]} requests are too few for {100 * share:g} %;"
                    f" were all of them good, it could be {100 * least:.1f} % as well: take more"
                    " of the trace"
                )


def parse_targets(text: str) -> Targets:
    """`0.95`, `95` or `chat=95,agent=90`. Raises WorkloadError."""
    shares = dict[str, float]()
    for part in (part.strip() for part in text.split(",")):
        name, sign, number = (word.strip() for word in part.rpartition("="))
        name = name if sign else ALL
        if not name or name in shares:
            raise WorkloadError(f"target '{text}': a class once each, as in chat=95,agent=90")
        shares[name] = _share(part, number)
    return Targets(shares)


def class_of(slo_class: str) -> str:
    """The name of a class in tables and targets."""
    return slo_class or NO_CLASS


def class_counts(requests: Sequence[WorkloadRequest]) -> dict[str, int]:
    """Requests of each class, and of all, first."""
    counts = Counter(class_of(request.slo_class) for request in requests)
    return {ALL: len(requests), **dict(sorted(counts.items()))}


def _share(part: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if 0.0 < value < 1.0:
        return value
    if _LEAST_PERCENT <= value < 100.0:
        return value / 100.0
    raise WorkloadError(
        f"target '{part}' must be a share in (0, 1), as 0.95, or a percentage in [10, 100), as 95"
    )
