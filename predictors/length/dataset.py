"""Which (request, answer length) pairs are there to learn from? JSONL in, checked line by line.

One object a line: prompt, prompt_tokens, response_tokens; optional model, conversation, system,
tenant, max_tokens, temperature, turn. Other keys are ignored; a bad line is refused by file:line.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from predictors.length.hashing import text_hash
from predictors.length.quantiles import MAX_TOKENS
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray, IntArray

SHARES: Final = (0.65, 0.15, 0.20)  # to fit, to calibrate, to test
FEWEST_PAIRS: Final = 200


class DataError(ValueError):
    """Data that cannot be learned from; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Requests with their answer lengths and conversations; sha256 of their lines."""

    requests: list[LengthRequest]
    response_tokens: IntArray
    conversations: list[str]
    duplicates: int
    sha256: str

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def truth_z(self) -> FloatArray:
        """log(1 + answer tokens)."""
        return np.asarray(np.log1p(self.response_tokens), dtype=np.float64)

    def split(self, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """Rows to fit, calibrate and test on; a conversation lies in one of them.

        By hash: neither the order of the file nor its other rows move a conversation.
        """
        draws = np.array([text_hash(f"{seed}|{name}") % 10_007 for name in self.conversations])
        at = draws / 10_007
        fit, calibrate = SHARES[0], SHARES[0] + SHARES[1]
        return (
            np.flatnonzero(at < fit),
            np.flatnonzero((at >= fit) & (at < calibrate)),
            np.flatnonzero(at >= calibrate),
        )


def whole(record: Mapping[str, Any], key: str, default: int | None, least: int, most: int) -> int:
    """A whole-number field of a record. Raises ValueError naming it and its range."""
    value = record.get(key, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most}")
    return value


def text(record: Mapping[str, Any], key: str, default: str | None = "") -> str:
    """A string field of a record. Raises ValueError naming it."""
    value = record.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string")
    return value


def number(record: Mapping[str, Any], key: str, default: float) -> float:
    """A finite field >= 0 of a record. Raises ValueError naming it."""
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{key} must be finite and >= 0")
    return float(value)


def records(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """(line number, raw line, object) of each line that is not blank.

    Raises:
        DataError: unreadable, or a line that is not a JSON object (file:line).
    """
    try:
        with path.open("rb") as file:
            for at, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:
                    record = json.loads(raw.decode())
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}:{at}: {error}") from None
                except (ValueError, RecursionError):
                    raise DataError(f"{path}:{at}: not JSON") from None
                if not isinstance(record, dict):
                    raise DataError(f"{path}:{at}: must be a JSON object")
                yield at, raw, record
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from None


def _pair(record: Mapping[str, Any]) -> tuple[LengthRequest, int, str]:
    request = LengthRequest(
        prompt=text(record, "prompt", None),
        prompt_tokens=whole(record, "prompt_tokens", None, 0, 10**9),
        max_tokens=whole(record, "max_tokens", 0, 0, 10**9),
        temperature=number(record, "temperature", 1.0),
        system=text(record, "system"),
        turn=whole(record, "turn", 1, 1, 10**6),
        model=text(record, "model"),
        tenant=text(record, "tenant"),
    )
    tokens = whole(record, "response_tokens", None, 0, MAX_TOKENS)
    return request, tokens, text(record, "conversation") or request.prompt


def read_pairs(path: Path, fewest: int = FEWEST_PAIRS) -> Pairs:
    """All pairs of a file, repeated requests dropped.

    Raises:
        DataError: unreadable, a bad line (file:line: reason), or too few pairs.
    """
    requests: list[LengthRequest] = []
    tokens: list[int] = []
    conversations: list[str] = []
    seen: set[tuple[str, str, str]] = set()
    duplicates, digest = 0, hashlib.sha256()
    for at, raw, record in records(path):
        digest.update(raw)
        try:
            request, length, conversation = _pair(record)
        except ValueError as error:
            raise DataError(f"{path}:{at}: {error}") from None
        key = (" ".join(request.prompt.split()).casefold(), request.system, request.model)
        if key in seen:
            duplicates += 1
            continue
        seen.add(key)
        requests.append(request)
        tokens.append(length)
        conversations.append(conversation)
    if len(requests) < fewest:
        raise DataError(f"{path}: {len(requests)} different requests, at least {fewest} are needed")
    lengths = np.array(tokens, dtype=np.int64)
    return Pairs(requests, lengths, conversations, duplicates, digest.hexdigest())
