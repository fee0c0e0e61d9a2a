"""How are other people's request logs (CSV) read? By column NAME, never by position.

azure      Azure LLM inference traces (Patel et al., Splitwise, ISCA'24; also the 2024 files)
burstgpt   BurstGPT (arXiv 2401.17644)
reference  arrival_s,prompt_tokens,output_tokens[,tenant|client][,n_hash_blocks][,...]
In the first two, a row without output (or input) is a failed request: dropped and counted.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from workloads.errors import TraceError, UnknownName
from workloads.row import BLOCK_TOKENS, MAX_TOKENS, TraceRow, block_count, rebased

T = TypeVar("T")
MOONCAKE = "mooncake"  # the canonical JSONL form; see workloads.trace
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


def parse_seconds(text: str) -> float:
    """A plain number of seconds. Raises ValueError with the reason."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"must be a number of seconds >= 0, got '{text:.40}'")
    return value


def parse_stamp(text: str) -> float:
    """An ISO time stamp with up to 9 fractional digits (Azure writes 7) -> seconds since 1970."""
    match = _STAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a time like 2023-11-16 18:15:46.6805900, got '{text:.40}'")
    whole = datetime.fromisoformat(match[1] + (match[3] or "")).replace(microsecond=0)
    if whole.tzinfo is None:
        whole = whole.replace(tzinfo=UTC)
    return whole.timestamp() + (float(f"0.{match[2]}") if match[2] else 0.0)


@dataclass(frozen=True, slots=True)
class TableKind:
    """Which columns hold what, and how the time column is written."""

    time: str
    prompt: str
    output: str
    parse_time: Callable[[str], float] = parse_seconds
    zero_is_failure: bool = True

    @property
    def columns(self) -> tuple[str, str, str]:
        """The columns that identify this kind."""
        return self.time, self.prompt, self.output


KINDS: Mapping[str, TableKind] = {
    "azure": TableKind("TIMESTAMP", "ContextTokens", "GeneratedTokens", parse_stamp),
    "burstgpt": TableKind("Timestamp", "Request tokens", "Response tokens"),
    "reference": TableKind(
        "arrival_s", "prompt_tokens", "output_tokens", parse_seconds, zero_is_failure=False
    ),
}
TENANT_COLUMNS = ("tenant", "client")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a log, first arrival at zero, and how many failed requests were dropped."""

    rows: list[TraceRow]
    dropped: int


def sniff(path: Path) -> str:
    """Kind of a trace by its first line of text: `mooncake` or one of KINDS. Raises TraceError."""
    with path.open("rb") as file:
        head = next(
            (line for line in iter(lambda: file.readline(65_536), b"") if line.strip()), b""
        )
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text.startswith("{"):
        return MOONCAKE
    header = {name.strip('" \t') for name in text.split(",")}
    for name, kind in KINDS.items():
        if header.issuperset(kind.columns):
            return name
    valid = "; ".join(f"{name} ({','.join(kind.columns)})" for name, kind in KINDS.items())
    reason = f"unknown header {text[:80]!r}; valid kinds: {MOONCAKE} (JSONL); {valid}"
    raise TraceError(path, 1, reason)


def read_table(path: Path, kind_name: str) -> Table:
    """Read a CSV log of a known kind.

    Raises:
        TraceError: a missing column, a malformed field, decreasing times, or no rows.
        UnknownName: no such kind.
    """
    if kind_name not in KINDS:
        raise UnknownName("trace kind", kind_name, [MOONCAKE, *KINDS])
    kind = KINDS[kind_name]
    rows: list[TraceRow] = []
    dropped, last_s = 0, -math.inf
    for line, fields in _records(path, kind):
        try:
            time_s = _named(kind.time, kind.parse_time, fields)
            if time_s < last_s:
                raise ValueError(f"{kind.time}: earlier than the row before")
            last_s = time_s
            prompt, output = (_named(name, _tokens, fields) for name in kind.columns[1:])
            if kind.zero_is_failure and (prompt == 0 or output == 0):
                dropped += 1
                continue
            rows.append(_row(time_s, prompt, output, fields))
        except ValueError as error:
            raise TraceError(path, line, str(error)) from None
    if not rows:
        raise TraceError(path, 1, "holds no requests")
    return Table(rebased(rows), dropped)


def _row(arrival_s: float, prompt: int, output: int, fields: Mapping[str, str]) -> TraceRow:
    tenant = next((fields[name] for name in TENANT_COLUMNS if name in fields), "")
    row = TraceRow(arrival_s, prompt, output, tenant=tenant)
    if "n_hash_blocks" in fields:  # a check: another block size would silently mean other prefixes
        stated = _named("n_hash_blocks", _tokens, fields)
        blocks = block_count(prompt)
        if stated != blocks:
            reason = f"n_hash_blocks is {stated}, {prompt} tokens in blocks of {BLOCK_TOKENS}"
            raise ValueError(f"{reason} are {blocks}")
    return row


def _records(path: Path, kind: TableKind) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields by column name); blank lines are skipped."""
    with path.open("rb") as file:
        # Decoded line by line, so that a decoding error names its own line.
        reader = csv.reader((line.decode() for line in file), strict=True)
        header: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise TraceError(path, line, f"not a CSV text: {error}") from None
            if fields is None:
                return
            if not header:
                header = _header(path, fields, kind) if fields else []
            elif len(fields) == len(header):
                yield line, dict(zip(header, fields, strict=True))
            elif fields:
                reason = f"{len(fields)} fields, the header has {len(header)}"
                raise TraceError(path, line, reason)


def _header(path: Path, fields: Sequence[str], kind: TableKind) -> list[str]:
    header = [name.strip("\ufeff \t") for name in fields]
    missing = [name for name in kind.columns if name not in header]
    if missing:
        raise TraceError(path, 1, f"column '{missing[0]}' is missing")
    return header


def _named(name: str, parse: Callable[[str], T], fields: Mapping[str, str]) -> T:
    try:
        return parse(fields[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _tokens(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise ValueError(f"must be a whole number of tokens, got '{text:.40}'")
    if int(digits) > MAX_TOKENS:
        raise ValueError(f"must be at most {MAX_TOKENS}, got '{text:.40}'")
    return int(digits)
