"""Which steps were measured? Reads `steps.jsonl` and turns samples into columns for fitting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray, IntArray
from scorpio.core.snapshot import StepSample

_FIELDS = tuple(f.name for f in fields(StepSample) if f.default is MISSING)  # those measured
_COUNTS = frozenset({"prefill_tokens", "num_decodes", "decode_context_tokens"})


class StepFileError(ValueError):
    """A step file that cannot be used; the message names the file, the line and the reason."""


@dataclass(frozen=True, slots=True)
class StepTable:
    """Executed steps as columns, all of shape [n], in the order they were executed.

    prefill_tokens is P, decodes B, context_tokens the sum of decode contexts S; prefill_sq and
    prefill_prefix are the sums of n^2 and n*p over the chunks of the step.
    """

    prefill_tokens: FloatArray
    prefill_sq: FloatArray
    prefill_prefix: FloatArray
    decodes: FloatArray
    context_tokens: FloatArray
    duration_s: FloatArray

    @classmethod
    def of(cls, samples: Sequence[StepSample]) -> StepTable:
        """Columns of `samples`."""
        rows = np.array([[getattr(s, name) for name in _FIELDS] for s in samples], dtype=np.float64)
        return cls(*rows.reshape(-1, len(_FIELDS)).T)

    def __len__(self) -> int:
        return len(self.duration_s)

    @property
    def tokens(self) -> FloatArray:
        """T: tokens computed in the step."""
        return self.prefill_tokens + self.decodes

    @property
    def decode_only(self) -> BoolArray:
        return np.asarray((self.decodes > 0) & (self.prefill_tokens == 0))

    @property
    def prefill_only(self) -> BoolArray:
        return np.asarray((self.decodes == 0) & (self.prefill_tokens > 0))

    @property
    def mixed(self) -> BoolArray:
        return np.asarray((self.decodes > 0) & (self.prefill_tokens > 0))

    def take(self, rows: BoolArray | IntArray) -> StepTable:
        """The chosen rows, in their order."""
        return StepTable(*(getattr(self, f.name)[rows] for f in fields(self)))


def read_steps(path: Path, start_byte: int = 0) -> list[StepSample]:
    """Samples of a `steps.jsonl`, from `start_byte` on (a line boundary).

    A last line without its newline is one the engine is still writing: it is left out.

    Raises:
        StepFileError: unreadable file, or a malformed line (named by number).
    """
    try:
        with path.open("rb") as file:
            file.seek(start_byte)
            text = file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StepFileError(f"{path}: cannot read step samples: {error}") from None
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    return list(_parse(path, whole_lines))


def _parse(path: Path, lines: Sequence[str]) -> Iterable[StepSample]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _sample(json.loads(line))
        except (ValueError, OverflowError, RecursionError) as error:  # too large, too deep
            raise StepFileError(f"{path}, line {number}: {error}") from None


def _sample(raw: object) -> StepSample:
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    missing = [name for name in _FIELDS if name not in raw]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    values: dict[str, float] = {}
    for name in _FIELDS:
        value = raw[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} is not a number: {value!r}")
        if not math.isfinite(value) or value < 0 or (name == "duration_s" and value == 0):
            raise ValueError(f"{name} is out of range: {value!r}")
        values[name] = int(value) if name in _COUNTS else float(value)
    return StepSample(**values)  # type: ignore[arg-type]
