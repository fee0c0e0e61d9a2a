"""What became of the last requests? The end of the ledger's files, read when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scorpio import channel
from scorpio.ledger.entry import Entry, entry_of
from scorpio.ledger.find import body_of, printable
from scorpio.ledger.sentences import explain

TAIL_BYTES = 256 << 10  # of one engine: some 300 requests
MOST_DECISIONS = 20
MOST_PAIRS = 200
MOST_TENANTS = 20
_MOST_ID = 64
_Stamps = tuple[channel.Stamp, channel.Stamp]


class LedgerEnd:
    """The last requests of all engines; a file is read again only when it has grown. Its methods
    are called by one thread at a time."""

    def __init__(self, run_dir: str | None, engines: Iterable[int]) -> None:
        self._run_dir, self._engines = run_dir, engines
        self._known: dict[int, tuple[_Stamps, list[Entry]]] = {}

    def entries(self) -> list[Entry]:
        """In the order in which they ended."""
        if self._run_dir is None:
            return []
        found = [entry for engine in self._engines for entry in self._of(self._run_dir, engine)]
        return sorted(found, key=lambda entry: (_ended_unix_s(entry), entry.id))

    def _of(self, run_dir: str, engine: int) -> list[Entry]:
        names = [channel.of_engine(n, engine) for n in (channel.LEDGER_OLD, channel.LEDGER)]
        old, new = (channel.stamp(run_dir, name) for name in names)
        known = self._known.get(engine)
        if known is None or known[0] != (old, new):
            raw = [line for name in names for line in _last_lines(Path(run_dir) / name)]
            read = [entry for line in raw if (entry := _read(line)) is not None]
            known = self._known[engine] = ((old, new), read)
        return known[1]


def told(entries: Sequence[Entry]) -> dict[str, Any]:
    """For the page: of all of them the tenants and how forecasts fared, of the last ones each."""
    ends = [_ended_unix_s(entry) for entry in entries]
    return {
        "requests": len(entries),
        "since_unix_s": min(ends, default=None),
        "decisions": [_decision(entry) for entry in reversed(entries[-MOST_DECISIONS:])],
        "pairs": _pairs(entries),
        "tenants": _tenants(entries),
    }


def _ended_unix_s(entry: Entry) -> float:
    return round(entry.arrived_unix_s + entry.ended_ms / 1000.0, 3)


def _last_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).split(b"\n")
    except OSError:
        return []
    return lines[1:] if size > TAIL_BYTES else lines  # the first one may be half a line


def _read(line: bytes) -> Entry | None:
    try:
        return entry_of(line) if line else None
    except (ValueError, RecursionError):
        return None


def _decision(entry: Entry) -> dict[str, Any]:
    return {
        "id": printable(body_of(entry.id))[:_MOST_ID],
        "key": f"{entry.id[:_MOST_ID]} {entry.arrived_unix_s}",
        "engine": str(entry.engine),
        "ended_unix_s": _ended_unix_s(entry),
        "slo_class": entry.slo_class,
        "tenant": entry.tenant,
        "verdict": entry.verdict,
        "outcome": entry.outcome,
        "reason": entry.reason,
        "missed": list(entry.missed),
        "prompt_tokens": entry.prompt_tokens,
        "output_tokens": entry.output_tokens,
        "ttft_ms": [entry.slo_ttft_ms, entry.forecast_ttft_ms, entry.first_token_ms],
        "tpot_ms": [entry.slo_tpot_ms, entry.forecast_tpot_ms, entry.mean_gap_ms],
        "told": explain(entry)[1:],
    }


def _pairs(entries: Sequence[Entry]) -> dict[str, list[list[float]]]:
    """Forecast and outcome, in milliseconds."""
    done = [entry for entry in entries if entry.outcome == "finished"][-MOST_PAIRS:]
    both = {
        "ttft": [(entry.forecast_ttft_ms, entry.first_token_ms) for entry in done],
        "tpot": [(entry.forecast_tpot_ms, entry.mean_gap_ms) for entry in done],
    }
    return {
        kind: [[round(a, 1), round(b, 1)] for a, b in pairs if a is not None and b is not None]
        for kind, pairs in both.items()
    }


def _tenants(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Those with the most requests; as the ledger names them: a salted hash, or nothing."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        row = rows.setdefault(entry.tenant, {"tenant": entry.tenant} | dict.fromkeys(_COUNTS, 0))
        row["requests"] += 1
        row["counted"] += entry.outcome != "aborted"
        row["good"] += entry.outcome == "finished" and not entry.missed
        row["refused"] += entry.outcome == "rejected"
        row["tokens"] += entry.prompt_tokens + entry.output_tokens
    return most_active(rows.values())


_COUNTS = ("requests", "counted", "good", "refused", "tokens")


def most_active(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first MOST_TENANTS of them."""
    busiest = sorted(rows, key=lambda row: (-row["requests"], row["tenant"]))
    return [dict(row) for row in busiest[:MOST_TENANTS]]
