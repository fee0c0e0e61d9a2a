"""What does a recorded load look like on disk? Mooncake JSONL, one request a line (canonical form).

    {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..],
     "extra": {"vllm_xargs": {"slo_ttft_ms": 500, ...}}, "tenant": "a"}
`hash_ids`, `extra` and `tenant` may be absent; other keys are ignored. AIPerf merges `extra` into
the request body; vLLM ignores what it does not know. CSV logs are read too (workloads.tables).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from scorpio.core.slo import (
    XARG_FIELDS,
    OnMiss,
    SloError,
    parse_ms,
    parse_on_miss,
    parse_predicted_tokens,
)
from workloads.atomic import write_atomic
from workloads.errors import TraceError
from workloads.row import (
    BLOCK_TOKENS,
    MAX_HASH_ID,
    MAX_TOKENS,
    TraceRow,
    rate_scale,
    slice_rows,
    with_unique_hash_ids,
)
from workloads.tables import MOONCAKE, read_table, sniff

__all__ = [
    "BLOCK_TOKENS",
    "TraceError",
    "TraceRow",
    "rate_scale",
    "read_trace",
    "slice_rows",
    "write_trace",
]

MAX_MS = 1e15  # 30,000 years


def read_trace(path: Path | str, rows: str | None = None) -> list[TraceRow]:
    """Read a trace of any known kind; `rows` = "A:B" takes a window and re-bases it to zero.

    Raises:
        TraceError: malformed; names the file, the line and the reason.
        WorkloadError: `rows` is malformed or beyond the end.
    """
    path = Path(path)
    kind = sniff(path)
    found = list(_read_jsonl(path)) if kind == MOONCAKE else read_table(path, kind).rows
    return slice_rows(with_unique_hash_ids(found), rows)


def write_trace(path: Path | str, rows: Iterable[TraceRow]) -> None:
    """Write the canonical form, whole or not at all. Times are kept to the nanosecond."""
    write_atomic(Path(path), "".join(json.dumps(_to_json(row)) + "\n" for row in rows))


def _to_json(row: TraceRow) -> dict[str, object]:
    timestamp_ms = round(row.arrival_s * 1000.0, 6)
    record: dict[str, object] = {
        "timestamp": int(timestamp_ms) if timestamp_ms.is_integer() else timestamp_ms,
        "input_length": row.prompt_tokens,
        "output_length": row.output_tokens,
        "hash_ids": list(row.hash_ids),
    }
    if row.xargs:
        record["extra"] = {"vllm_xargs": dict(row.xargs)}
    if row.tenant:
        record["tenant"] = row.tenant
    return record


def _read_jsonl(path: Path) -> Iterator[TraceRow]:
    last_s, empty = -math.inf, True
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = _parse_line(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                if row.arrival_s < last_s:
                    raise ValueError("timestamp: earlier than the row before")
            except (ValueError, RecursionError) as error:
                raise TraceError(path, number, str(error)) from None
            last_s, empty = row.arrival_s, False
            yield row
    if empty:
        raise TraceError(path, 1, "holds no requests")


def _parse_line(text: str) -> TraceRow:
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(record, dict):
        raise ValueError(f"must be a JSON object, got {type(record).__name__}")
    tenant = record.get("tenant", "")
    if not isinstance(tenant, str):
        raise ValueError(f"tenant: must be a string, got {type(tenant).__name__}")
    return TraceRow(
        arrival_s=_milliseconds(record) / 1000.0,
        prompt_tokens=_count(record, "input_length"),
        output_tokens=_count(record, "output_length"),
        hash_ids=_hash_ids(record),
        xargs=_xargs(record),
        tenant=tenant,
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no JSON number")


def _field(record: Mapping[str, object], key: str) -> object:
    if key not in record:
        raise ValueError(f"{key}: missing")
    return record[key]


def _milliseconds(record: Mapping[str, object]) -> float:
    value = _field(record, "timestamp")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_MS:
        return float(value)
    raise ValueError(f"timestamp: must be a number of milliseconds >= 0, got {_shown(value)}")


def _count(record: Mapping[str, object], key: str) -> int:
    value = _field(record, key)
    if type(value) is not int or not 1 <= value <= MAX_TOKENS:
        raise ValueError(f"{key}: must be an integer 1..{MAX_TOKENS}, got {_shown(value)}")
    return value


def _hash_ids(record: Mapping[str, object]) -> tuple[int, ...]:
    value = record.get("hash_ids", [])
    if not isinstance(value, list):
        raise ValueError(f"hash_ids: must be a list of integers, got {_shown(value)}")
    for item in value:
        if type(item) is not int or not 0 <= item <= MAX_HASH_ID:
            raise ValueError(f"hash_ids: must be integers 0..2^63-1, got {_shown(item)}")
    return tuple(value)


def _xargs(record: Mapping[str, object]) -> dict[str, object]:
    """`extra.vllm_xargs`, checked as the server does: a bad SLO shows here, not as a 400 later."""
    extra = record.get("extra", {})
    if not isinstance(extra, dict):
        raise ValueError(f"extra: must be an object, got {_shown(extra)}")
    xargs = extra.get("vllm_xargs", {})
    if not isinstance(xargs, dict):
        raise ValueError(f"extra.vllm_xargs: must be an object, got {_shown(xargs)}")
    for key, value in xargs.items():
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"extra.vllm_xargs.{key}: must be flat, got {_shown(value)}")
    try:
        for name in XARG_FIELDS:
            if name in xargs:
                parse_ms(name, xargs[name])
        parse_on_miss(xargs, default=OnMiss.REJECT)
        parse_predicted_tokens(xargs)
    except SloError as error:
        raise ValueError(f"extra.vllm_xargs.{error}") from None
    return xargs


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a huge integer"
    return text if len(text) <= 40 else text[:37] + "..."
