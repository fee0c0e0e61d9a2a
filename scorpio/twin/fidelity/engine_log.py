"""What did a real engine do? A per-request log with token times, as a load and as the truth.

One JSON object per line: request_id, input_toks, output_toks, arrival_time (wall clock),
queued_ts, scheduled_ts, first_token_ts, last_token_ts (the engine's monotonic clock). A file
`*_meta.json` beside `*_requests.jsonl` names the limits it ran with: log_meta.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity.log_meta import read_meta
from workloads.errors import TraceError, WorkloadError
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome, RequestRecord
from workloads.traces.reading import shown
from workloads.traces.row import MAX_TOKENS
from workloads.traces.text import decoded, raw_lines

_TIMES = ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts")
_COUNTS = ("input_toks", "output_toks")
_MOST_S = 1e11  # a wall clock in milliseconds is beyond it
_REQUESTS, _META = "_requests.jsonl", "_meta.json"


@dataclass(frozen=True, slots=True)
class EngineLog:
    """Requests in order of arrival, the first one at zero; `real` are their measured records."""

    name: str
    requests: list[WorkloadRequest]
    real: list[RequestRecord]
    limits: Mapping[str, int]  # of its engine, by field of `EngineSpec`; those that are known
    model: str = ""
    dropped: int = 0  # requests of the log without a token of output

    @property
    def kv_blocks(self) -> int | None:
        """Its KV pool in blocks of 16 tokens, where the log states it."""
        return self.limits.get("num_blocks")

    def spec(self, base: EngineSpec) -> EngineSpec:
        """`base` with the limits that the log states, and those that it does not as vLLM makes
        them fit; the pool is the caller's to choose. Raises WorkloadError: they do not go together.
        """
        stated: dict[str, Any] = {k: v for k, v in self.limits.items() if k != "num_blocks"}
        made = replace(base, **stated)
        seqs, budget = made.max_num_seqs, made.max_num_batched_tokens
        if budget < seqs and "max_num_seqs" not in stated:
            made = replace(made, max_num_seqs=budget)
        elif budget < seqs and "max_num_batched_tokens" not in stated:
            made = replace(made, max_num_batched_tokens=seqs)
        elif budget < seqs:
            raise WorkloadError(
                f"{self.name}: its engine's max_num_batched_tokens ({budget}) is below its"
                f" max_num_seqs ({seqs}): vLLM does not start so"
            )
        return made


@dataclass(frozen=True, slots=True)
class Served:
    """One request that got all its tokens. Seconds, on any one clock."""

    sent_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float
    last_s: float


def log_of(
    path: Path,
    served: Iterable[Served],
    dropped: int,
    limits: Mapping[str, int] = MappingProxyType({}),
    model: str = "",
    name: str = "",
) -> EngineLog:
    """Requests by when they were sent, the first at zero. Raises WorkloadError: there are none."""
    rows = sorted(served, key=lambda row: row.sent_s)
    if not rows:
        raise WorkloadError(f"{path}: holds no requests ({dropped} failed ones dropped)")
    requests, real = [], []
    for index, row in enumerate(rows):
        sent_s, first_s, last_s = (
            at_s - rows[0].sent_s for at_s in (row.sent_s, row.first_s, row.last_s)
        )
        prompt, output = row.prompt_tokens, row.output_tokens
        requests.append(WorkloadRequest(index, sent_s, prompt, output, (), "", math.inf, math.inf))
        real.append(
            RequestRecord(
                index=index,
                slo_class="",
                send_s=sent_s,
                scheduled_send_s=sent_s,
                prompt_tokens=prompt,
                output_tokens=output,
                outcome=Outcome.FINISHED,
                first_token_s=first_s,
                last_token_s=max(first_s, last_s),
                ended_s=max(first_s, last_s),
            )
        )
    name = name or path.stem
    return EngineLog(name, requests, real, limits, model or name, dropped)


def read_engine_log(path: Path, meta: Path | None = None) -> EngineLog:
    """meta: what its engine ran with; the file of its name beside it, if there is one.
    Raises WorkloadError naming the file, the line or the field, and the reason."""
    found = list(_rows(path))
    rows = [row for row in found if row is not None]
    dropped = len(found) - len(rows)
    # Two clocks: the shortest way from arrival to the engine's queue stands for no way at all.
    offset_s = min((row["queued_ts"] - row["arrival_time"] for row in rows), default=0.0)
    served = [
        Served(
            row["arrival_time"],
            int(row["input_toks"]),
            int(row["output_toks"]),
            row["first_token_ts"] - offset_s,
            row["last_token_ts"] - offset_s,
        )
        for row in rows
    ]
    limits, model = read_meta(meta or _meta_of(path))
    return log_of(path, served, dropped, limits, model, path.name.removesuffix(_REQUESTS))


def _rows(path: Path) -> Iterator[dict[str, float] | None]:
    try:
        for number, line in raw_lines(path):
            if line.strip():
                yield _numbered(path, number, line)
    except TraceError as error:  # unreadable; its own text speaks of traces
        raise WorkloadError(f"{path}, line {error.line}: {error.reason}") from None


def _numbered(path: Path, number: int, line: bytes) -> dict[str, float] | None:
    try:
        return _row(json.loads(decoded(line)))
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}, line {number}: {error}") from None


def _row(raw: object) -> dict[str, float] | None:
    """The numbers of a request; None when it failed: no token of output."""
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    if raw.get("output_toks") == 0 and type(raw["output_toks"]) is int:
        return None
    row: dict[str, float] = {}
    for name in (*_TIMES, *_COUNTS):
        value = raw.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} is missing or not a number")
        if name in _COUNTS and not (1 <= value <= MAX_TOKENS and value == int(value)):
            raise ValueError(f"{name} must be a whole number of tokens >= 1, got {shown(value)}")
        if name in _TIMES and not 0.0 <= value < _MOST_S:
            raise ValueError(f"{name} must be seconds >= 0, got {shown(value)}")
        row[name] = float(value)
    if not row["queued_ts"] <= row["first_token_ts"] <= row["last_token_ts"]:
        raise ValueError("need queued_ts <= first_token_ts <= last_token_ts")
    return row


def _meta_of(path: Path) -> Path | None:
    meta = path.with_name(path.name.removesuffix(_REQUESTS) + _META)
    return meta if path.name.endswith(_REQUESTS) and meta.is_file() else None
