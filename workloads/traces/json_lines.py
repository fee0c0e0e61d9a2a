"""How are traces of one JSON object a line read? Mooncake's form (ours too), and Qwen's.

mooncake   {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [..],
            "extra": {"vllm_xargs": {"slo_ttft_ms": 500, ...}}, "tenant": "a"}
qwen       the same names with "chat_id" and "parent_chat_id": seconds, blocks of 16 tokens
`hash_ids`, `extra` and `tenant` may be absent; `slo_class`, `slo_ttft_ms`, `slo_tpot_ms` and
`slo_e2el_ms` may stand beside them. Other keys are ignored, and named on screen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from workloads.errors import TraceError
from workloads.traces.reading import HEAD_ROWS, Columns, shown
from workloads.traces.row import BLOCK_TOKENS, MAX_HASH_ID, MAX_TOKENS, TraceRow
from workloads.traces.slos import SLO_COLUMNS, checked, slos_of
from workloads.traces.text import decoded, raw_lines

MOONCAKE, QWEN = "mooncake", "qwen"
QWEN_KEYS = ("chat_id", "parent_chat_id")
_QWEN_BLOCK_TOKENS = 16
_KEYS = ("timestamp", "input_length", "output_length")
JSON_NAMES = {  # what `--map` means here
    **dict(zip(("arrival", "prompt", "output"), _KEYS, strict=True)),
    "tenant": "tenant",
    **{name.removeprefix("slo_"): name for name in SLO_COLUMNS},
}


def states_slos(path: Path) -> bool:
    """Do the first rows of this file say in `extra` what was promised? Anything else that they are
    is told when they are read."""
    with contextlib.suppress(TraceError):
        for _, line in itertools.islice(raw_lines(path), HEAD_ROWS):
            if b'"vllm_xargs"' in line and line.startswith(b"{"):
                return True
    return False


class JsonSource:
    """A trace of JSON lines, row by row."""

    time_name = "timestamp"
    named_unit = False

    def __init__(self, path: Path, kind: str, columns: Columns = ()) -> None:
        self.kind = kind
        self._own_names = {own: JSON_NAMES[meant] for meant, own in columns}
        self.used = frozenset(
            (*_KEYS, *QWEN_KEYS, *SLO_COLUMNS, "hash_ids", "extra", "tenant", *self._own_names)
        )
        self.unit: str | None = "s" if kind == QWEN else "ms"
        self.block_tokens = _QWEN_BLOCK_TOKENS if kind == QWEN else BLOCK_TOKENS
        self.slow_is_odd = kind == MOONCAKE
        self._path = path

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Yield (line number, bytes); blank lines are skipped. Raises TraceError."""
        return ((number, line) for number, line in raw_lines(self._path) if line.strip())

    def fields(self, raw: bytes) -> Mapping[str, object]:
        """The object of a line. Raises ValueError."""
        try:
            record = json.loads(decoded(raw), parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise ValueError("not JSON: maximum recursion depth exceeded") from None
        if not isinstance(record, dict):
            raise ValueError(f"must be a JSON object, got {type(record).__name__}")
        for own, name in self._own_names.items():
            if own in record:
                record[name] = record.pop(own)
        for name in _KEYS:
            if name not in record:
                own = next((o for o, n in self._own_names.items() if n == name), name)
                raise ValueError(f"{own}: missing")
        return record

    def time(self, fields: Mapping[str, object]) -> object:
        """The time as it is written."""
        return fields[self.time_name]

    def row(
        self, fields: Mapping[str, object], arrival_s: float, block_tokens: int
    ) -> TraceRow | None:
        """The request; None when it failed: no token of input or output. Raises ValueError."""
        prompt, output = (_count(fields, name) for name in ("input_length", "output_length"))
        tenant = fields.get("tenant", "")
        if not isinstance(tenant, str):
            raise ValueError(f"tenant: must be a string, got {type(tenant).__name__}")
        ids, xargs = _hash_ids(fields), slos_of(fields) | _xargs(fields)
        if prompt == 0 or output == 0:
            return None
        return TraceRow(arrival_s, prompt, output, ids, xargs, tenant, block_tokens)

    def blocks(self, fields: Mapping[str, object]) -> tuple[int, int] | None:
        """(ids, prompt tokens) of a row that names blocks. Raises ValueError."""
        ids = _hash_ids(fields)
        return (len(ids), _count(fields, "input_length")) if ids else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no JSON number")


def _count(record: Mapping[str, object], key: str) -> int:
    value = 0 if record[key] is None else record[key]
    if type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise ValueError(f"{key}: must be an integer 0..{MAX_TOKENS}, got {shown(value)}")
    return value


def _hash_ids(record: Mapping[str, object]) -> tuple[int, ...]:
    value = record.get("hash_ids", [])
    if not isinstance(value, list):
        raise ValueError(f"hash_ids: must be a list of integers, got {shown(value)}")
    for item in value:
        if type(item) is not int or not 0 <= item <= MAX_HASH_ID:
            raise ValueError(f"hash_ids: must be integers 0..2^63-1, got {shown(item)}")
    return tuple(value)


def _xargs(record: Mapping[str, object]) -> dict[str, object]:
    """`extra.vllm_xargs`, checked as the server does: a bad SLO shows here, not as a 400 later."""
    extra = record.get("extra", {})
    if not isinstance(extra, dict):
        raise ValueError(f"extra: must be an object, got {shown(extra)}")
    xargs = extra.get("vllm_xargs", {})
    if not isinstance(xargs, dict):
        raise ValueError(f"extra.vllm_xargs: must be an object, got {shown(xargs)}")
    checked(xargs, "extra.vllm_xargs.")
    return xargs
