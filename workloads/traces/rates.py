"""How does load change over days? Requests per second of each client in windows, from a CSV file.

The form of Alibaba's ServeGen: `client,window_start_s,rate_rps[,gap_cv]`, one line for each client
and window. Beside it a JSON file may say how long each client's prompts and answers are:
{"clients": {ID: {"input": [quantiles], "output": [quantiles]}}}.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import TraceError, WorkloadError

Floats = NDArray[np.float64]
COLUMNS = ("client", "window_start_s", "rate_rps")
CV = "gap_cv"
MOST_WINDOWS = 1_000_000
TICK_S = 10  # windows are whole numbers of it, for load is made tick by tick
MOST_TICKS = 50_000_000  # of all clients together: some gigabytes
MOST_RPS, MOST_CV = 1e7, 1e4


@dataclass(frozen=True, slots=True)
class Rates:
    """rate_rps, gap_cv: [client, window]. window_s: how long each window is. filled: windows of
    which the file says nothing; they are taken as the line between their neighbours. start_s: of
    the first window, counted from a midnight."""

    clients: tuple[str, ...]
    window_s: float
    rate_rps: Floats
    gap_cv: Floats
    filled: int = 0
    start_s: float = 0.0

    @property
    def span_s(self) -> float:
        """All windows together, seconds."""
        return self.window_s * int(self.rate_rps.shape[1])

    def scaled(self, factor: float) -> Rates:
        """So many times as much of each client, as evenly or unevenly as before."""
        return replace(self, rate_rps=self.rate_rps * factor)


@dataclass(frozen=True, slots=True)
class ClientTokens:
    """Quantiles of prompt and answer tokens, evenly spaced from 0 to 1. Between two of them tokens
    grow by a factor: between the last but one and the largest lie orders of magnitude, and on a
    straight line long answers would be the rule there."""

    prompt: Floats
    output: Floats

    def drawn(self, at: Floats, which: str) -> Floats:
        """Tokens at quantiles `at` (0 to 1), 1 or more. which: prompt or output."""
        values: Floats = getattr(self, which)
        logs = np.log(np.maximum(values, 1.0))
        found: Floats = np.exp(np.interp(at * (len(values) - 1), range(len(values)), logs))
        return found


def is_rates(path: Path) -> bool:
    """Does its first line name our columns?"""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(COLUMNS) <= set(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the file, and its number."""

    number: int
    client: str
    start_s: int
    rps: float
    gap_cv: float


def read_rates(path: Path) -> Rates:
    """Raises TraceError naming file and line."""
    lines = list(_lines(path))
    if not lines:
        raise TraceError(path, 2, "no windows")
    first_s = min(line.start_s for line in lines)
    window_s = _window_s(path, lines)
    count = (max(line.start_s for line in lines) - first_s) // window_s + 1
    clients = tuple(dict.fromkeys(line.client for line in lines))
    _check_size(path, count, len(clients) * count * (window_s // TICK_S))
    place = {client: row for row, client in enumerate(clients)}
    rate, cv = np.zeros((len(clients), count)), np.ones((len(clients), count))
    told = np.zeros(count, dtype=np.bool_)
    seen: set[tuple[int, int]] = set()
    for line in lines:
        column, off = divmod(line.start_s - first_s, window_s)
        if off:
            reason = f"window_start_s {line.start_s} is no multiple of {window_s} s"
            raise TraceError(path, line.number, reason)
        at = place[line.client], column
        if at in seen:
            reason = f"client {line.client}: a second line for window {line.start_s}"
            raise TraceError(path, line.number, reason)
        seen.add(at)
        rate[at], cv[at] = line.rps, line.gap_cv
        told[column] = True
    if not rate.any():
        raise TraceError(path, 2, "no requests: all rates are 0")
    known = told.nonzero()[0]
    for row in rate:
        row[~told] = np.interp((~told).nonzero()[0], known, row[told])
    return Rates(clients, float(window_s), rate, cv, int((~told).sum()), float(first_s))


def _window_s(path: Path, lines: Sequence[_Line]) -> int:
    """The least time between two starts."""
    first_of = {line.start_s: line.number for line in reversed(lines)}
    starts = sorted(first_of)
    window_s, start_s = min(((b - a, b) for a, b in pairwise(starts)), default=(0, 0))
    if window_s <= 0:
        raise TraceError(path, 2, "one window only: its length cannot be told")
    if window_s % TICK_S:
        reason = f"a window of {window_s} s is no whole number of {TICK_S} s"
        raise TraceError(path, first_of[start_s], reason)
    return window_s


def _check_size(path: Path, windows: int, ticks: int) -> None:
    if windows > MOST_WINDOWS:
        raise TraceError(path, 2, f"{windows} windows, more than {MOST_WINDOWS}")
    if ticks > MOST_TICKS:
        reason = f"{ticks} times {TICK_S} s of all clients together, more than {MOST_TICKS}"
        raise TraceError(path, 2, reason)


def _lines(path: Path) -> Iterator[_Line]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or [])]
            if missing:
                raise TraceError(path, 1, f"no column {missing[0]}")
            for row in table:
                line = table.line_num  # of the file: the table leaves blank ones out
                start_s = _number(path, line, row, "window_start_s", 1e12)
                if start_s != int(start_s):
                    said = row["window_start_s"]
                    raise TraceError(path, line, f"window_start_s: {said!r} is no whole number")
                rps = _number(path, line, row, "rate_rps", MOST_RPS)
                cv = _number(path, line, row, CV, MOST_CV) if row.get(CV) else 1.0
                yield _Line(line, row["client"] or "", int(start_s), rps, cv)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: {error}") from None


def _number(path: Path, line: int, row: Mapping[str, Any], name: str, most: float) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        raise TraceError(path, line, f"{name}: {row[name]!r} is no number") from None
    if not (math.isfinite(value) and 0.0 <= value <= most):
        raise TraceError(path, line, f"{name} must be 0 to {most:g}, got {row[name]!r}")
    return value


_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)


def read_client_tokens(path: Path) -> dict[str, ClientTokens]:
    """By client. Raises WorkloadError naming the file, the client and what is wrong."""
    try:
        clients = json.loads(path.read_text())["clients"].items()
    except _UNREADABLE as error:
        raise WorkloadError(f"{path}: {type(error).__name__}: {error}") from None
    found = {}
    for name, each in clients:
        try:
            found[name] = _tokens(each)
        except _UNREADABLE as error:
            said = f"client {name}: {type(error).__name__}: {error}"
            raise WorkloadError(f"{path}: {' '.join(said.split())}") from None
    if not found:
        raise WorkloadError(f"{path}: no clients")
    return found


def _tokens(raw: Mapping[str, Sequence[float]]) -> ClientTokens:
    prompt, output = (np.asarray(raw[name], dtype=float) for name in ("input", "output"))
    for values in (prompt, output):
        if (
            values.ndim != 1
            or len(values) < 2
            or not np.isfinite(values).all()
            or (np.diff(values) < 0).any()
        ):
            raise ValueError("quantiles must be two numbers or more that do not fall")
    return ClientTokens(prompt, output)


def pooled(rates: Rates, tokens: Mapping[str, ClientTokens]) -> ClientTokens:
    """Of all clients with known lengths together, by how much each sends; stands for the others.

    Raises WorkloadError: none of the clients is known.
    """
    known = [(row, tokens[name]) for row, name in enumerate(rates.clients) if name in tokens]
    weights = np.array([rates.rate_rps[row].sum() for row, _ in known])
    if weights.sum() <= 0.0:
        raise WorkloadError("no client of the rates has known token lengths")
    at = (np.arange(200) + 0.5) / 200
    order = np.repeat(weights / weights.sum() / len(at), len(at))
    mixed = []
    for which in ("prompt", "output"):
        values = np.concatenate([each.drawn(at, which) for _, each in known])
        rank = np.argsort(values, kind="stable")
        mixed.append(np.interp(np.linspace(0, 1, 201), np.cumsum(order[rank]), values[rank]))
    return ClientTokens(*mixed)
