"""How does somebody else's log become a canonical trace? Sniff its kind, read, spread, write.

Command: python -m workloads.convert SOURCE OUT.jsonl [--kind KIND] [--spread-tick-s 3]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workloads.errors import UnknownName, WorkloadError
from workloads.row import TraceRow, with_unique_hash_ids
from workloads.tables import KINDS, MOONCAKE, read_table, sniff
from workloads.trace import read_trace, write_trace

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did: the kind it read, rows written, failed requests dropped."""

    kind: str
    rows: int
    dropped: int


def convert(
    source: Path | str,
    kind: str,
    out: Path | str,
    *,
    spread_tick_s: float = 0.0,
    seed: int = 0,
) -> Conversion:
    """Convert `source` (kind `auto`, `mooncake`, `azure`, `burstgpt` or `reference`) to JSONL.

    Raises:
        TraceError: malformed source; nothing is written.
        UnknownName: no such kind.
    """
    source = Path(source)
    if kind not in (AUTO, MOONCAKE, *KINDS):
        raise UnknownName("trace kind", kind, [AUTO, MOONCAKE, *KINDS])
    found = sniff(source) if kind == AUTO else kind
    dropped = 0
    if found == MOONCAKE:
        rows = read_trace(source)
    else:
        table = read_table(source, found)
        rows, dropped = with_unique_hash_ids(table.rows), table.dropped
    if spread_tick_s:
        rows = spread_ticks(rows, spread_tick_s, seed)
    write_trace(out, rows)
    return Conversion(found, len(rows), dropped)


def spread_ticks(rows: Sequence[TraceRow], tick_s: float, seed: int = 0) -> list[TraceRow]:
    """Undo a quantised clock: rows of one tick get sorted uniform times within that tick.

    Mooncake's log ticks every 3 s (give or take 3 ms). Order is kept, and no row passes the
    next tick.
    """
    if not 0.0 < tick_s <= 3600.0:
        raise WorkloadError(f"tick must be 0..3600 s, got {tick_s!r}")
    arrival_s = np.array([row.arrival_s for row in rows])
    ticks_s, index = np.unique(arrival_s, return_inverse=True)
    widths_s = np.minimum(np.append(np.diff(ticks_s), tick_s), tick_s)
    jitter = np.random.default_rng(seed).random(len(rows))
    order = np.lexsort((jitter, index))  # sort inside each tick; ticks stay in order
    spread_s = arrival_s + jitter[order] * widths_s[index]
    return [replace(row, arrival_s=float(t)) for row, t in zip(rows, spread_s, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; one clear line and exit code 2 when the source cannot be used."""
    parser = argparse.ArgumentParser(prog="workloads.convert", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", default=AUTO, help=", ".join((AUTO, MOONCAKE, *KINDS)))
    parser.add_argument("--spread-tick-s", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        done = convert(
            options.source,
            options.kind,
            options.out,
            spread_tick_s=options.spread_tick_s,
            seed=options.seed,
        )
    except (WorkloadError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{options.out}: {done.rows} requests from {done.kind}, {done.dropped} failed ones dropped"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
