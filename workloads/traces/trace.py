"""What does a recorded load look like on disk? Mooncake JSONL, one request a line (canonical form).

Any known kind is read (workloads.traces.intake, docs/traces.md); this one is written. AIPerf merges
`extra` into the request body; vLLM ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from scorpio.files import write_atomic
from workloads.errors import TraceError
from workloads.traces.intake import read_intake
from workloads.traces.reading import AS_IT_SAYS, Reading
from workloads.traces.row import BLOCK_TOKENS, TraceRow, in_common_blocks, rate_scale, slice_rows

__all__ = [
    "BLOCK_TOKENS",
    "TraceError",
    "TraceRow",
    "rate_scale",
    "read_trace",
    "slice_rows",
    "write_trace",
]


def read_trace(
    path: Path | str, rows: str | None = None, reading: Reading = AS_IT_SAYS, seed: int = 0
) -> list[TraceRow]:
    """The requests of `read_intake`, the first at zero. Raises TraceError, WorkloadError."""
    return list(read_intake(path, rows, reading, seed).rows)


def write_trace(path: Path | str, rows: Iterable[TraceRow]) -> None:
    """Write the canonical form, whole or not at all. Times are kept to the nanosecond.

    Raises:
        WorkloadError: `hash_ids` of blocks that cannot be put together to 512 tokens.
    """
    canonical = in_common_blocks(list(rows))
    write_atomic(Path(path), "".join(json.dumps(_to_json(row)) + "\n" for row in canonical))


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
