"""What is kept of a soak? Totals, a sample every ten seconds, and a look at each quiet moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scorpio.files import write_atomic
from scorpio.studies.results import Header
from tests.soak.processes import Held

WARM_UP_S, WARM_UP_SHARE = 600.0, 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment under load. Counts and times are of the requests that ended since the last one."""

    t_s: float
    processes: Mapping[str, Held]
    running: int
    waiting: int
    kv_used_fraction: float
    ended: Mapping[str, int]
    first_p50_s: float | None = None
    first_p95_s: float | None = None
    end_p50_s: float | None = None
    end_p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class Quiet:
    """A moment without load: is everything given back?"""

    t_s: float
    kv_used_fraction: float
    running: int
    waiting: int
    processes: Mapping[str, Held] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """No block held, no request left."""
        return (self.kv_used_fraction, self.running, self.waiting) == (0.0, 0, 0)


@dataclass(slots=True)
class SoakRecord:
    """One soak. `broke`: why it ended early, "" when it did not."""

    header: Header
    minutes: float
    rate_rps: float
    seed: int
    kv_blocks: int = 0
    sent: int = 0
    grammar: int = 0
    held_back: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    broke: str = ""

    @property
    def ran_minutes(self) -> float:
        """Until the last look; less than `minutes` when the run was cut off or the server broke."""
        times_s = [*(s.t_s for s in self.samples), *(q.t_s for q in self.quiet)]
        return max(times_s, default=0.0) / 60.0

    @property
    def cut_off(self) -> bool:
        """The run ended before its time, and not for the server's sake."""
        return not self.broke and self.ran_minutes < 0.95 * self.minutes

    @property
    def after_warm_up(self) -> list[Sample]:
        """Ten minutes are warm-up, of a short run the first quarter."""
        warm_s = min(WARM_UP_S, WARM_UP_SHARE * 60.0 * self.minutes)
        return [sample for sample in self.samples if sample.t_s >= warm_s]

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        write_atomic(path, json.dumps(asdict(self), allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> SoakRecord:
        """What `write` wrote."""
        raw = json.loads(path.read_text())

        def looked(look: dict[str, Any]) -> dict[str, Any]:
            return look | {"processes": {n: Held(**h) for n, h in look["processes"].items()}}

        samples = [Sample(**looked(s)) for s in raw.pop("samples")]
        quiet = [Quiet(**looked(q)) for q in raw.pop("quiet")]
        return cls(Header(**raw.pop("header")), **raw, samples=samples, quiet=quiet)
