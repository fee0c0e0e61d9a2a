"""What if a class were promised something else? `--what tpot.chat=40`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workloads.errors import UnknownName, WorkloadError
from workloads.request import WorkloadRequest
from workloads.targets import class_of

_FIELDS = {"ttft": "ttft_slo_s", "tpot": "tpot_slo_s", "e2el": "e2e_slo_s"}


@dataclass(frozen=True, slots=True)
class SloChange:
    """One objective of one class, in ms, in place of what the load gives it."""

    objective: str
    slo_class: str
    value_ms: float

    def __str__(self) -> str:
        return f"{self.objective}.{self.slo_class}={self.value_ms:g}"


def parse_changes(text: str | None, what: str = "what") -> tuple[SloChange, ...]:
    """`tpot.chat=40,ttft.agent=300`, in ms; what: its option. Raises WorkloadError."""
    if text is None:
        return ()
    changes = []
    for part in (part.strip() for part in text.split(",")):
        where, _, number = part.rpartition("=")
        objective, _, slo_class = where.partition(".")
        try:
            value_ms = float(number)
        except ValueError:
            value_ms = math.nan
        if objective not in _FIELDS or not slo_class or not 0.0 < value_ms < math.inf:
            raise WorkloadError(
                f"{what} '{part}' must be OBJECTIVE.CLASS=MS, as tpot.chat=40; objectives:"
                f" {', '.join(_FIELDS)}"
            )
        changes.append(SloChange(objective, slo_class, value_ms))
    if len({(c.objective, c.slo_class) for c in changes}) < len(changes):
        raise WorkloadError(f"{what} '{text}': an objective of a class is changed twice")
    return tuple(changes)


def changed(
    requests: Sequence[WorkloadRequest], changes: Sequence[SloChange]
) -> list[WorkloadRequest]:
    """The same requests under other promises. Raises UnknownName: a class that none has."""
    names = {class_of(request.slo_class) for request in requests}
    for change in changes:
        if change.slo_class not in names:
            raise UnknownName("class", change.slo_class, names)
    found = list(requests)
    for change in changes:
        new = {_FIELDS[change.objective]: change.value_ms / 1000.0}
        for row, request in enumerate(found):
            if class_of(request.slo_class) == change.slo_class:
                found[row] = replace(request, **new)  # type: ignore[arg-type]
    return found
