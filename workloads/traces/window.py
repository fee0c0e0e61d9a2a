"""Which rows of a source are asked for? Read one by one, failed ones dropped, sorted by time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from workloads.errors import TraceError
from workloads.traces.reading import seconds_of
from workloads.traces.row import TraceRow, with_own_ids


class Source(Protocol):
    """One kind of file; `unit` is that of its times as far as the kind says."""

    kind: str
    unit: str | None
    block_tokens: int
    used: frozenset[str]  # names of columns

    @property
    def named_unit(self) -> bool: ...
    @property
    def slow_is_odd(self) -> bool: ...
    @property
    def time_name(self) -> str: ...
    def records(self) -> Iterator[tuple[int, Any]]: ...
    def fields(self, raw: Any) -> Mapping[str, Any]: ...
    def time(self, fields: Any) -> Any: ...
    def row(self, fields: Any, arrival_s: float, block_tokens: int) -> TraceRow | None: ...
    def blocks(self, fields: Any) -> tuple[int, int] | None: ...


class Window:
    """Reads rows of a source one by one; keeps those asked for."""

    def __init__(self, path: Path, source: Source, unit_s: float | None, block_tokens: int) -> None:
        self._path, self._source = path, source
        self._unit_s, self._block_tokens = unit_s, block_tokens
        self.rows: list[TraceRow] = []  # as they stand; the first at zero
        self._times_s: list[float] = []
        self.numbers: list[int] = []  # of the rows, in the file
        self.dropped_numbers: list[int] = []
        self.rows_seen = 0

    @property
    def dropped(self) -> int:
        """Failed requests among the rows read."""
        return len(self.dropped_numbers)

    def take(self, first: int, end: int | None, *, to_next_tick: bool) -> None:
        """Rows from `first` on, up to `end`, or to the first one after the instant of the last."""
        start_s = None
        for number, (line, raw) in enumerate(self._source.records()):
            beyond = end is not None and number >= end
            if beyond and not to_next_tick:
                return
            self.rows_seen = number + 1
            if number < first:
                continue
            try:
                fields = self._source.fields(raw)
                time_s = _time_s(self._source, fields, self._unit_s)
                arrival_s = 0.0 if start_s is None else max(time_s - start_s, 0.0)
                row = self._source.row(fields, arrival_s, self._block_tokens)
            except ValueError as error:
                raise TraceError(self._path, line, str(error)) from None
            if row is None:
                self.dropped_numbers.append(number)
                continue
            start_s = time_s if start_s is None else start_s
            next_tick = beyond and (not self.rows or arrival_s > self.rows[-1].arrival_s)
            self.rows.append(with_own_ids(row, number))
            self.numbers.append(number)
            self._times_s.append(time_s)
            if next_tick:
                return

    def sort(self) -> int:
        """By time; equal ones as they stand. How many stood before one that came earlier?"""
        times_s = self._times_s
        moved = sum(b < a for a, b in itertools.pairwise(times_s))
        if moved:
            order = sorted(range(len(times_s)), key=times_s.__getitem__)
            first_s = times_s[order[0]]
            self.rows = [replace(self.rows[n], arrival_s=times_s[n] - first_s) for n in order]
            self.numbers = [self.numbers[n] for n in order]
        return moved


def _time_s(source: Source, fields: Mapping[str, Any], unit_s: float | None) -> float:
    try:
        return seconds_of(source.time(fields), unit_s)
    except ValueError as error:
        raise ValueError(f"{source.time_name}: {error}") from None
