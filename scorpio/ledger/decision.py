"""What is one line of a comparison's decision log? A ledger entry, and who was chosen instead.

Times are milliseconds after the request's arrival, in virtual time; negative: before it came.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from scorpio.ledger.entry import Entry, entry_of

MOST_NAMED = 8  # others that a line names; of the rest it has the number
MOST_REQUESTS = 100_000  # of a run, the first that came; the others have no line
FOLDER = "decisions"


@dataclass(frozen=True, slots=True)
class Other:
    """A request that stood in its way. due_ms: of its first token; None without an SLO."""

    index: int
    slo_class: str
    prompt_tokens: int
    came_ms: float
    due_ms: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One try of request `index`, from its arrival to its end.

    waiting, waiting_tokens, running: the others when it started, was refused or left.
    overtaken_by: of the others that started while it waited, those that came after it.
    started: the last of these, in order. kept: of a refused one, which waited on, the first due
        first. Both name MOST_NAMED at most.
    """

    entry: Entry
    index: int
    tries: int
    waiting: int
    waiting_tokens: int
    running: int
    overtaken_by: int
    started: tuple[Other, ...]
    kept: tuple[Other, ...]

    def to_line(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False) + "\n"


def decision_of(line: str | bytes) -> Decision:
    """A decision from its line. Raises ValueError naming the field."""
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    return Decision(
        entry=_entry(raw.get("entry")),
        index=_count(raw, "index"),
        tries=_count(raw, "tries"),
        waiting=_count(raw, "waiting"),
        waiting_tokens=_count(raw, "waiting_tokens"),
        running=_count(raw, "running"),
        overtaken_by=_count(raw, "overtaken_by"),
        started=_others(raw, "started"),
        kept=_others(raw, "kept"),
    )


def _entry(raw: Any) -> Entry:
    try:
        return entry_of(json.dumps(raw))
    except ValueError as error:
        raise ValueError(f"entry: {error}") from None


def _others(raw: Mapping[str, Any], name: str) -> tuple[Other, ...]:
    value = raw.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name}: must be a list")
    return tuple(map(_other, value))


def _other(raw: Any) -> Other:
    names = [field.name for field in fields(Other)]
    if not isinstance(raw, dict) or sorted(raw) != sorted(names):
        raise ValueError(f"another request must have {', '.join(names)}")
    due_ms = raw["due_ms"]
    return Other(
        _count(raw, "index"),
        str(raw["slo_class"]),
        _count(raw, "prompt_tokens"),
        _number("came_ms", raw["came_ms"]),
        None if due_ms is None else _number("due_ms", due_ms),
    )


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name}: must be a whole number from 0")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: must be a finite number")
    return float(value)
