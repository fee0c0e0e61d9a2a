"""Traces as files, for the tests of the intake layer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from workloads.errors import TraceError
from workloads.traces.intake import Intake, read_intake
from workloads.traces.reading import Reading

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def saved(tmp_path: Path, content: str | bytes, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mooncake(times: Iterable[float], **more: object) -> str:
    sizes = {"input_length": 64, "output_length": 8}
    return json_lines({"timestamp": t, **sizes, **more} for t in times)


def times(found: Intake) -> list[float]:
    return [round(row.arrival_s, 6) for row in found.rows]


def refused(path: Path, reading: Reading = Reading(), rows: str | None = None) -> str:  # noqa: B008
    with pytest.raises(TraceError) as caught:
        read_intake(path, rows, reading)
    assert "docs/traces.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# --- how a file is packed


def chained(tokens: Iterable[int], block: int, shared: int) -> str:
    """Rows whose first `shared` blocks are the same, the rest their own."""
    rows = []
    for number, length in enumerate(tokens):
        blocks = -(-length // block)
        own = range(1000 * (number + 1), 1000 * (number + 1) + blocks - shared)
        rows.append(
            {
                "timestamp": 1000 * number,
                "input_length": length,
                "output_length": 4,
                "hash_ids": [*range(shared), *own],
            }
        )
    return json_lines(rows)
