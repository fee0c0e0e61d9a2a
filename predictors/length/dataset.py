"""Which (request, answer length) pairs are there to learn from? JSONL in, checked line by line.

One object a line: prompt, prompt_tokens, response_tokens; optional model, conversation, system,
tenant, max_tokens, temperature, turn. Other keys are ignored; a bad line is refused by file:line.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from predictors.length.hashing import text_hash
from predictors.length.quantiles import MAX_TOKENS
from predictors.length.request import LengthRequest
from scorpio.core.views import FloatArray, IntArray

SHARES: Final = (0.65, 0.15, 0.20)  # to fit, to calibrate, to test
FEWEST_PAIRS: Final = 200


class DataError(ValueError):
    """Data that cannot be learned from; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Requests with their answer lengths and conversations; `sha256` of the file they came from."""

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


def _whole(record: dict[str, Any], key: str, default: int | None, least: int, most: int) -> int:
    value = record.get(key, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most}")
    return value


def _text(record: dict[str, Any], key: str, default: str | None = "") -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a string")
    return value


def _pair(line: str) -> tuple[LengthRequest, int, str]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(record, dict):
        raise ValueError("must be a JSON object")
    temperature = record.get("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ValueError("temperature must be a number")
    if not math.isfinite(temperature) or temperature < 0:
        raise ValueError("temperature must be finite and >= 0")
    request = LengthRequest(
        prompt=_text(record, "prompt", None),
        prompt_tokens=_whole(record, "prompt_tokens", None, 0, 10**9),
        max_tokens=_whole(record, "max_tokens", 0, 0, 10**9),
        temperature=float(temperature),
        system=_text(record, "system"),
        turn=_whole(record, "turn", 1, 1, 10**6),
        model=_text(record, "model"),
        tenant=_text(record, "tenant"),
    )
    tokens = _whole(record, "response_tokens", None, 0, MAX_TOKENS)
    return request, tokens, _text(record, "conversation") or request.prompt


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
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                digest.update(raw)
                if not raw.strip():
                    continue
                try:
                    request, length, conversation = _pair(raw.decode())
                except ValueError as error:
                    raise DataError(f"{path}:{number}: {error}") from None
                key = (" ".join(request.prompt.split()).casefold(), request.system, request.model)
                if key in seen:
                    duplicates += 1
                    continue
                seen.add(key)
                requests.append(request)
                tokens.append(length)
                conversations.append(conversation)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from None
    if len(requests) < fewest:
        raise DataError(f"{path}: {len(requests)} different requests, at least {fewest} are needed")
    lengths = np.array(tokens, dtype=np.int64)
    return Pairs(requests, lengths, conversations, duplicates, digest.hexdigest())
