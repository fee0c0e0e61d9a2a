"""How are request records kept? JSON Lines, one request per line; null stands for `inf` or None.

A record file with its final name is complete. A run that was stopped leaves NAME.partial.jsonl.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scorpio.files import publish
from workloads.errors import WorkloadError
from workloads.results.records import Outcome, RequestRecord

_FIELDS = {field.name: field for field in fields(RequestRecord)}
_SLOS = ("ttft_slo_s", "tpot_slo_s", "e2e_slo_s")
_COUNTS = ("index", "prompt_tokens", "output_tokens", "preemptions", "tries")
_OPTIONAL_COUNTS = ("http_status", "intended_tokens")
_TIMES = ("send_s", "scheduled_send_s")
_OPTIONAL_TIMES = (
    "first_token_s", "last_token_s", "ended_s", "predicted_ttft_s", "predicted_tpot_s",
    "last_send_s", "turn_s",
)  # fmt: skip
_FLAGS = ("client_fault",)
_TEXTS = ("slo_class", "tenant")
_OPTIONAL_TEXTS = ("reject_reason", "error")
_MOST = 1e300


class RecordError(WorkloadError):
    """A line that is no record: file, line number, reason."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}")
        self.path = path
        self.line = line
        self.reason = reason


def record_to_dict(record: RequestRecord) -> dict[str, Any]:
    """Record -> plain JSON values. Token times are kept to the microsecond."""
    values: dict[str, Any] = {name: getattr(record, name) for name in _FIELDS}
    for name in _SLOS:
        values[name] = None if math.isinf(values[name]) else values[name]
    values["outcome"] = record.outcome.value
    if record.token_times_s is not None:
        values["token_times_s"] = [round(time_s, 6) for time_s in record.token_times_s]
    return values


def record_from_dict(values: Mapping[str, Any]) -> RequestRecord:
    """Plain JSON values -> record. Raises ValueError naming the field."""
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    for name, field in _FIELDS.items():
        if name not in values and field.default is MISSING:
            raise ValueError(f"field {name!r} is missing")
    return RequestRecord(**{name: _parse(name, value) for name, value in values.items()})


def _parse(name: str, value: object) -> Any:
    if name == "outcome":
        try:
            return Outcome(str(value))
        except ValueError:
            raise ValueError(f"outcome must be one of {', '.join(Outcome)}") from None
    if value is None:
        if name in _SLOS:
            return math.inf
        if name in (*_OPTIONAL_TIMES, *_OPTIONAL_TEXTS, *_OPTIONAL_COUNTS, "token_times_s"):
            return None
        raise ValueError(f"{name} must not be null")
    if name == "token_times_s":
        if not isinstance(value, list):
            raise ValueError("token_times_s must be a list of numbers")
        times_s = tuple(_number(name, item) for item in value)
        if any(later < earlier for earlier, later in itertools.pairwise(times_s)):
            raise ValueError("token_times_s must not decrease")
        return times_s
    if name in (*_COUNTS, *_OPTIONAL_COUNTS):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} must be a whole number")
        return value
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false")
        return value
    if name in (*_TEXTS, *_OPTIONAL_TEXTS):
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text")
        return value
    return _number(name, value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number")
    if not -_MOST < value < _MOST:  # also NaN
        raise ValueError(f"{name} must be finite")
    return float(value)


class RecordWriter:
    """Writes records as they come. Left normally: the file gets its name. Left by an exception
    (Ctrl-C included): the lines so far become NAME.partial.jsonl, each of them valid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial_path = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._temporary = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb")

    def write(self, record: RequestRecord) -> None:
        """Append one record."""
        line = json.dumps(record_to_dict(record), separators=(",", ":"), allow_nan=False)
        self._file.write(line.encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file as file:
            publish(file, self._temporary, self.path if kind is None else self.partial_path)
        if kind is None:
            self.partial_path.unlink(missing_ok=True)


def write_records(path: Path, records: Iterable[RequestRecord]) -> None:
    """Write a whole record file, atomically."""
    with RecordWriter(path) as writer:
        for record in records:
            writer.write(record)


def read_records(path: Path) -> list[RequestRecord]:
    """Read a record file. Raises RecordError with file, line and reason."""
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise ValueError("must be a JSON object")
                records.append(record_from_dict(values))
            except (ValueError, OverflowError, RecursionError) as error:  # JSON, UTF-8 too
                raise RecordError(path, number, str(error)) from None
    return records
