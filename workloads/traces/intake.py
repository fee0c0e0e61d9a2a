"""What does a trace file hold? The one way in: kind, units, doubts, window, failed rows, in order.

A row without a token of input or output is a failed request of the log: dropped and counted, in
every kind of file. A window costs its rows; those before it are passed over unparsed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workloads.errors import TraceError, WorkloadError
from workloads.traces.json_lines import MOONCAKE, QWEN, QWEN_KEYS, JsonSource
from workloads.traces.reading import (
    AS_IT_SAYS,
    HEAD_ROWS,
    UNITS_S,
    Columns,
    Head,
    NamedBlocks,
    Reading,
    doubt_of_blocks,
    doubt_of_unit,
    seconds_of,
    tick_of,
)
from workloads.traces.row import TraceRow, parse_rows, rebased
from workloads.traces.tables import KINDS, MAPPED, CsvSource, mapped_kind
from workloads.traces.text import raw_lines
from workloads.traces.ticks import spread_ticks
from workloads.traces.window import Source, Window

_SNIFFED_BYTES = 65_536
_KEPT_TRACES = 2
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Intake:
    """The requests of a trace or of a window of it, the first at zero, and how they were read.

    dropped: failed requests of the log. block_tokens: None where the file names no blocks.
    tick_s: of a coarse clock that was left as it is. moved: rows that stood before one that came
    earlier. unused: columns that mean nothing here.
    """

    kind: str
    rows: tuple[TraceRow, ...]
    dropped: int
    time_unit: str
    block_tokens: int | None
    tick_s: float | None = None
    moved: int = 0
    unused: tuple[str, ...] = ()

    def lines(self, name: str) -> list[str]:
        """For people: what was read and how, and what to be careful about."""
        span_s = self.rows[-1].arrival_s
        rate = f", {len(self.rows) / span_s:.3g} requests/s" if span_s > 0.0 else " (one instant)"
        blocks = "" if self.block_tokens is None else f", blocks of {self.block_tokens} tokens"
        used = f"{len(self.rows):,} used, {self.dropped:,} failed dropped"
        told = [
            f"{name} ({self.kind}): {used}; {_span_text(span_s)}{rate};"
            f" times are {self.time_unit}{blocks}"
        ]
        if self.moved:
            told.append(
                f"{name}: {self.moved:,} rows were out of order and have been sorted by time"
            )
        shared = len(self.rows) - len({row.arrival_s for row in self.rows})
        if self.tick_s is not None and shared:
            told.append(
                f"{name}: its clock ticks every {self.tick_s:.3g} s, so {shared:,} requests come at"
                f" the instant of another: --spread-tick-s {self.tick_s:.3g} spreads them"
            )
        if self.unused:
            names = ", ".join(f"{column:.40}" for column in self.unused[:_MOST_NAMED])
            more = len(self.unused) - _MOST_NAMED
            told.append(
                f"{name}: columns not used: {names}{f' and {more} more' if more > 0 else ''}"
            )
        return told


def sniff(path: Path, columns: Columns = ()) -> Source:
    """The kind of a file by its first line of text. columns: what the user says of its names.
    Raises TraceError."""
    line, head = next(((n, raw) for n, raw in raw_lines(path) if raw.strip()), (1, b""))
    text = head[:_SNIFFED_BYTES].decode(errors="replace").strip()
    if text.startswith("{"):
        return JsonSource(path, _json_kind(head), columns)
    if text.startswith("["):
        raise TraceError(path, line, _list_reason(text))
    if columns:
        return CsvSource(path, MAPPED, mapped_kind(columns), columns)
    header = {name.strip(' "\t') for name in text.split(",")}
    for name, kind in KINDS.items():
        if header.issuperset(kind.columns):
            return CsvSource(path, name, kind)
    raise TraceError(path, line, f"unknown header {text[:80]!r}; {_valid_kinds()}")


def _valid_kinds() -> str:
    tables = "; ".join(f"{name} ({','.join(kind.columns)})" for name, kind in KINDS.items())
    other = "other names: --map arrival=COLUMN,prompt=COLUMN,output=COLUMN"
    return f"valid kinds: {MOONCAKE}, {QWEN} (JSONL); {tables}; {other}"


def _json_kind(line: bytes) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return MOONCAKE  # reading it will say what is wrong
    return QWEN if isinstance(record, dict) and all(k in record for k in QWEN_KEYS) else MOONCAKE


def _list_reason(text: str) -> str:
    if '"conversations"' in text or '"messages"' in text:
        return (
            "conversations (ShareGPT) have no arrival times; make a trace of their lengths:"
            " python -m workloads.traces.sharegpt FILE TOKENIZER.json OUT.csv"
        )
    return f"a JSON list; one object a line is read; {_valid_kinds()}"


def read_intake(
    path: Path | str, rows: str | None = None, reading: Reading = AS_IT_SAYS, seed: int = 0
) -> Intake:
    """Read a trace of any known kind; `rows` = "A:B" takes a window, counted in rows of the file.

    The last few are remembered: a comparison asks for the same one at every load.

    Args:
        seed: draws the spread of a coarse clock.

    Raises:
        TraceError: malformed, or in doubt; names the file, the line, the reason, and the option
            that helps.
        WorkloadError: `rows` is malformed or beyond the end.
    """
    path = Path(path)
    window = (0, None) if rows is None else parse_rows(rows)
    try:
        stat = os.stat(path)
    except OSError as error:
        raise TraceError(path, 1, f"cannot be read: {error.strerror or error}") from None
    version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return _read(path, version, window, reading, seed if reading.spread_tick_s else 0)


@lru_cache(maxsize=_KEPT_TRACES)
def _read(
    path: Path,
    _version: tuple[int, int, int],
    window: tuple[int, int | None],
    reading: Reading,
    seed: int,
) -> Intake:
    source = sniff(path, reading.columns)
    head = _head(source)
    unit, block_tokens = _settled(path, source, head, reading)
    first, end = window
    spread_s = reading.spread_tick_s
    found = Window(path, source, UNITS_S[unit] if unit else None, block_tokens)
    # A spread depends on the whole tick: what comes before, and the first row of the next tick.
    found.take(0 if spread_s else first, end, to_next_tick=bool(spread_s))
    if not found.rows_seen:
        raise TraceError(path, 1, "holds no requests")
    if found.rows_seen <= first or (end is not None and found.rows_seen < end):
        raise WorkloadError(f"{path}: rows {first}:{end or ''}: it has {found.rows_seen} rows")
    moved = found.sort()
    rows, numbers = found.rows, found.numbers
    if spread_s and moved:
        raise WorkloadError(f"--spread-tick-s: {path} has rows out of order: sort it by time first")
    if spread_s and rows:
        rows = spread_ticks(rows, spread_s, seed)
    last = found.rows_seen if end is None else end
    kept = [row for row, number in zip(rows, numbers, strict=True) if first <= number < last]
    if not kept:
        raise TraceError(path, 1, f"holds no requests ({found.dropped} failed ones dropped)")
    rows = rebased(kept) if kept[0].arrival_s else kept
    return Intake(
        kind=source.kind,
        rows=tuple(rows),
        dropped=sum(first <= number < last for number in found.dropped_numbers),
        time_unit="dates" if head.dates_s or unit is None else unit,
        block_tokens=block_tokens if head.blocks else None,
        tick_s=None if spread_s else tick_of(_seconds(head, unit)),
        moved=moved,
        unused=tuple(name for name in head.names if name not in source.used),
    )


def _head(source: Source) -> Head:
    """The evidence of the first rows, as far as they are well-formed: what is not is told when it
    is read."""
    head = Head()
    with contextlib.suppress(ValueError):
        for line, raw in itertools.islice(source.records(), HEAD_ROWS):
            fields = source.fields(raw)
            head.names.update(dict.fromkeys(fields))
            value = source.time(fields)
            time_s = seconds_of(value, UNITS_S["ns"])  # of a number: any unit
            if isinstance(value, str):
                head.dates_s.append(time_s)
            else:
                head.times.append(float(value))
            if (blocks := source.blocks(fields)) is not None:
                head.blocks.append(NamedBlocks(line, *blocks))
    return head


def _seconds(head: Head, unit: str | None) -> list[float]:
    scale = UNITS_S[unit] if unit else 1.0
    return head.dates_s or [time * scale for time in head.times]


def _settled(path: Path, source: Source, head: Head, reading: Reading) -> tuple[str | None, int]:
    """(unit of times, tokens of a block): as the user says, else as the kind does, without doubt.

    Raises:
        TraceError: the first rows speak against what the kind says.
    """
    unit, blocks = reading.time_unit or source.unit, reading.block_tokens or source.block_tokens
    if reading.time_unit is None and unit is not None and not source.named_unit:
        doubt = doubt_of_unit(sorted(head.times), unit, slow_is_odd=source.slow_is_odd)
        if doubt is not None:
            raise TraceError(path, 1, doubt)
    odd = doubt_of_blocks(head.blocks, blocks) if reading.block_tokens is None else None
    if odd is not None:
        raise TraceError(path, *odd)
    if reading.time_unit is not None and head.dates_s:
        raise WorkloadError(f"--time-unit: the times of {path} are dates")
    if reading.block_tokens is not None and not isinstance(source, JsonSource):
        raise WorkloadError(f"--block-tokens: {path} ({source.kind}) names no blocks")
    return unit, blocks


def _span_text(span_s: float) -> str:
    for unit, name in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if span_s >= 2.0 * unit:
            return f"{span_s / unit:.3g} {name}"
    return f"{span_s:.3g} s"
