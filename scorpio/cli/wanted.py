"""Which load, policies and place does a command line ask for? Names are still to be checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scorpio.cli.parse import listed, parse_rate, parse_seed, settled_mix

if TYPE_CHECKING:
    from workloads.load import LoadKey
    from workloads.traces.reading import Reading


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for, parsed; names are still to be checked."""

    trace: str
    rows: str | None
    mix: str
    rate_scales: tuple[float, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    reading: Reading

    def loads(self) -> list[LoadKey]:
        """Every load that is asked for."""
        from workloads.load import load_grid

        where = (self.trace, self.rows, self.mix)
        return load_grid(*where, self.rate_scales, self.seeds, self.reading)


def wanted(
    trace: str,
    rows: str | None,
    mix: str | None,
    rate_scale: str,
    policy: str,
    seed: str,
    out: Path,
    reading: Reading,
) -> Wanted:
    """The words of a command line, lists taken apart. Raises UsageError."""
    return Wanted(
        trace=trace,
        rows=rows,
        mix=settled_mix(trace, mix),
        rate_scales=tuple(listed("rate scale", rate_scale, parse_rate)),
        policies=tuple(listed("policy", policy, str)),
        seeds=tuple(listed("seed", seed, parse_seed)),
        out=out,
        reading=reading,
    )
