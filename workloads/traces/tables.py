"""How are other people's request logs (CSV) read? By column NAME, never by position.

azure      Azure LLM inference traces (Patel et al., Splitwise, ISCA'24; also the 2024 files)
burstgpt   BurstGPT (arXiv 2401.17644)
reference  arrival_s,prompt_tokens,output_tokens[,tenant|client][,n_hash_blocks][,...]
mapped     any names, said with `--map`
Each may have `slo_class`, `slo_ttft_ms`, `slo_tpot_ms` and `slo_e2el_ms` beside them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import TraceError
from workloads.traces.reading import Columns, number_of
from workloads.traces.row import BLOCK_TOKENS, MAX_TOKENS, TraceRow, block_count
from workloads.traces.slos import SLO_COLUMNS, slos_of
from workloads.traces.text import decoded, raw_lines


@dataclass(frozen=True, slots=True)
class TableKind:
    """Which columns hold what, and the unit of a time that is no date; None: it has to be said.

    named_unit: the column's own name says the unit, so that no number is a reason for doubt.
    """

    time: str
    prompt: str
    output: str
    unit: str | None = "s"
    named_unit: bool = False

    @property
    def columns(self) -> tuple[str, str, str]:
        """The columns that identify this kind."""
        return self.time, self.prompt, self.output


KINDS: Mapping[str, TableKind] = {
    "azure": TableKind("TIMESTAMP", "ContextTokens", "GeneratedTokens", unit=None),
    "burstgpt": TableKind("Timestamp", "Request tokens", "Response tokens"),
    "reference": TableKind("arrival_s", "prompt_tokens", "output_tokens", named_unit=True),
}
TENANT_COLUMNS = ("tenant", "client")
MAPPED = "mapped"
_SLO_MEANT = tuple(name.removeprefix("slo_") for name in SLO_COLUMNS)


def mapped_kind(columns: Columns) -> TableKind:
    """The kind that `--map` describes; what it leaves out has our own names."""
    own, ours = dict(columns), KINDS["reference"]
    time = own.get("arrival", ours.time)
    units = [unit for unit in ("ms", "us", "ns", "s") if time.endswith(f"_{unit}")]
    prompt, output = own.get("prompt", ours.prompt), own.get("output", ours.output)
    return TableKind(time, prompt, output, units[0] if units else None, named_unit=bool(units))


class CsvSource:
    """A CSV log of a known kind, row by row."""

    slow_is_odd = False  # logs of a quiet month exist

    def __init__(self, path: Path, name: str, kind: TableKind, columns: Columns = ()) -> None:
        self.kind = name
        self.unit = kind.unit
        self.named_unit = kind.named_unit
        self.block_tokens = BLOCK_TOKENS
        self._path = path
        self._columns = kind.columns
        own = dict(columns)
        slos = {f"slo_{meant}": own.get(meant, f"slo_{meant}") for meant in _SLO_MEANT}
        self._slos = slos
        self._tenants = (own["tenant"],) if "tenant" in own else TENANT_COLUMNS
        self.used = frozenset((*self._columns, *self._tenants, *slos.values(), "n_hash_blocks"))

    def records(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield (line number, fields as they stand); blank lines are skipped. Raises TraceError."""
        # Decoded line by line, so that a decoding error names its own line.
        reader = csv.reader((decoded(line) for _, line in raw_lines(self._path)), strict=True)
        self._header: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader, None)
            except TraceError:
                raise
            except (csv.Error, ValueError) as error:
                raise TraceError(self._path, line, f"not a CSV text: {error}") from None
            if fields is None:
                return
            if not fields:
                continue
            if self._header:
                yield line, fields
            else:
                self._header = self._named(fields, line)

    def _named(self, fields: Sequence[str], line: int) -> list[str]:
        header = [name.strip(' "\t') for name in fields]
        for name in self._columns:
            if header.count(name) != 1:
                wrong = "is missing" if name not in header else "is there twice"
                raise TraceError(self._path, line, f"column '{name}' {wrong}")
        return header

    def fields(self, raw: Sequence[str]) -> Mapping[str, str]:
        """Fields by column name. Raises ValueError."""
        if len(raw) != len(self._header):
            raise ValueError(f"{len(raw)} fields, the header has {len(self._header)}")
        return dict(zip(self._header, raw, strict=True))

    @property
    def time_name(self) -> str:
        """The column that holds the time."""
        return self._columns[0]

    def time(self, fields: Mapping[str, str]) -> float | str:
        """The time as it is written, a number or a text."""
        return number_of(fields[self.time_name])

    def row(
        self, fields: Mapping[str, str], arrival_s: float, block_tokens: int
    ) -> TraceRow | None:
        """The request; None when it failed: no token of input or output. Raises ValueError."""
        del block_tokens  # a table names no blocks
        prompt, output = (_tokens(name, fields[name]) for name in self._columns[1:])
        if "n_hash_blocks" in fields:  # a check: other blocks would silently mean other prefixes
            stated, blocks = _tokens("n_hash_blocks", fields["n_hash_blocks"]), block_count(prompt)
            if stated != blocks:
                reason = f"n_hash_blocks is {stated}, {prompt} tokens in blocks of {BLOCK_TOKENS}"
                raise ValueError(f"{reason} are {blocks}")
        if prompt == 0 or output == 0:
            return None
        tenant = next((fields[name] for name in self._tenants if name in fields), "")
        slo = {name: fields[own] for name, own in self._slos.items() if own in fields}
        return TraceRow(arrival_s, prompt, output, xargs=slos_of(slo), tenant=tenant)

    def blocks(self, fields: Mapping[str, str]) -> tuple[int, int] | None:
        """(ids, prompt tokens); a table names no blocks."""
        return None


def _tokens(name: str, text: str) -> int:
    digits = text.strip() or "0"  # empty: nothing was counted, so the request failed
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise ValueError(f"{name}: must be a whole number of tokens, got '{text:.40}'")
    if int(digits) > MAX_TOKENS:
        raise ValueError(f"{name}: must be at most {MAX_TOKENS}, got '{text:.40}'")
    return int(digits)
