"""What is one request of a trace, and what can be done to a list of them?

Rows are ordered by arrival. A slice starts at time zero again; a rate scale shrinks time and
touches nothing else. `hash_ids` name blocks of the prompt, of 512 tokens (Mooncake's convention)
unless `block_tokens` says otherwise: two rows that start with the same ids share that prefix, and
rows without ids share nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from workloads.errors import WorkloadError

BLOCK_TOKENS = 512  # Mooncake's block, in tokens of the prompt
MAX_TOKENS = 10_000_000  # above any context length; larger is a typing error
MAX_HASH_ID = 2**63 - 1
_OWN_IDS = 2**52  # above the ids that traces number by counting, below what a double holds
_ROW_IDS = 2**15  # ids of one row: MAX_TOKENS in blocks of 512
_ROWS = re.compile(r"(\d*):(\d*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request: when it comes, how long it is, what it shares, what it asked for.

    xargs are flat `vllm_xargs` as the client stated them (`slo_ttft_ms`, `slo_class`, ...).
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] = ()
    xargs: Mapping[str, object] = field(default_factory=dict)
    tenant: str = ""
    block_tokens: int = BLOCK_TOKENS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.arrival_s) and self.arrival_s >= 0.0):
            raise ValueError(f"arrival_s must be finite and >= 0, got {self.arrival_s!r}")
        for name in ("prompt_tokens", "output_tokens"):
            if not 1 <= getattr(self, name) <= MAX_TOKENS:
                raise ValueError(f"{name} must be 1..{MAX_TOKENS}, got {getattr(self, name)!r}")
        blocks = block_count(self.prompt_tokens, self.block_tokens)
        if len(self.hash_ids) > blocks:
            raise ValueError(
                f"{len(self.hash_ids)} hash_ids, but {self.prompt_tokens} prompt tokens are "
                f"{blocks} blocks of {self.block_tokens}"
            )


def block_count(prompt_tokens: int, block_tokens: int = BLOCK_TOKENS) -> int:
    """Blocks that a prompt of this length touches; the last one may be partial."""
    return -(-prompt_tokens // block_tokens)


def with_own_ids(row: TraceRow, number: int) -> TraceRow:
    """Row `number` of a file with ids that no other row has, the same whatever window is read."""
    if row.hash_ids:
        return row
    first = _OWN_IDS + number * _ROW_IDS
    return replace(
        row,
        hash_ids=tuple(range(first, first + block_count(row.prompt_tokens))),
        block_tokens=BLOCK_TOKENS,
    )


def in_common_blocks(rows: Sequence[TraceRow]) -> list[TraceRow]:
    """The same rows in blocks of 512 tokens. Smaller blocks are taken together, and what two rows
    share of a block that is not wholly the same is lost; larger ones are cut.

    Raises:
        WorkloadError: a size that neither divides 512 nor is a multiple of it.
    """
    numbers: dict[tuple[object, ...], int] = {}
    return [_in_common_blocks(row, numbers) for row in rows]


def _in_common_blocks(row: TraceRow, numbers: dict[tuple[object, ...], int]) -> TraceRow:
    size, ids = row.block_tokens, row.hash_ids
    if size == BLOCK_TOKENS or not ids:
        return replace(row, block_tokens=BLOCK_TOKENS)
    keys: list[tuple[object, ...]]
    if BLOCK_TOKENS % size == 0:
        together = BLOCK_TOKENS // size
        keys = [ids[at : at + together] for at in range(0, len(ids), together)]
        whole = min(len(ids) * size, row.prompt_tokens)
        if whole < row.prompt_tokens and whole % BLOCK_TOKENS:
            keys.pop()  # a part of a block is named, the rest belongs to none
    elif size % BLOCK_TOKENS == 0:
        pieces = block_count(min(len(ids) * size, row.prompt_tokens))
        keys = [(ids[k * BLOCK_TOKENS // size], k % (size // BLOCK_TOKENS)) for k in range(pieces)]
    else:
        raise WorkloadError(
            f"blocks of {size} tokens cannot be written as blocks of {BLOCK_TOKENS}"
        )
    named = tuple(numbers.setdefault(key, len(numbers)) for key in keys)
    return replace(row, hash_ids=named, block_tokens=BLOCK_TOKENS)


def with_unique_hash_ids(rows: Sequence[TraceRow], *, replace_all: bool = False) -> list[TraceRow]:
    """Give rows without `hash_ids` (or all rows) ids that no other has."""
    taken = () if replace_all else (max(row.hash_ids) for row in rows if row.hash_ids)
    next_id = max(taken, default=-1) + 1
    filled = []
    for row in rows:
        if row.hash_ids and not replace_all:
            filled.append(row)
            continue
        blocks = block_count(row.prompt_tokens)
        filled.append(replace(row, hash_ids=tuple(range(next_id, next_id + blocks))))
        next_id += blocks
    return filled


def parse_rows(text: str) -> tuple[int, int | None]:
    """`A:B`, `A:` or `:B` -> (first, end). Raises WorkloadError saying the form."""
    match = _ROWS.fullmatch(text.strip())
    if match is None or len(text) > 40:
        raise WorkloadError(f"rows must be A:B with 0 <= A < B, got '{text}'")
    first = int(match[1] or 0)
    end = int(match[2]) if match[2] else None
    if end is not None and end <= first:
        raise WorkloadError(f"rows must be A:B with 0 <= A < B, got '{text}'")
    return first, end


def slice_rows(rows: Sequence[TraceRow], selection: str | None) -> list[TraceRow]:
    """Rows `A:B`, arrivals re-based to zero; everything, untouched, for None.

    Raises:
        WorkloadError: malformed, or beyond the end (a shorter run would pass for the one asked).
    """
    if selection is None:
        return list(rows)
    first, end = parse_rows(selection)
    if first >= len(rows) or (end is not None and end > len(rows)):
        raise WorkloadError(f"rows {selection}: the trace has {len(rows)} rows")
    return rebased(rows[first:end])


def rebased(rows: Sequence[TraceRow]) -> list[TraceRow]:
    """The same rows with the first arrival at zero."""
    start_s = rows[0].arrival_s if rows else 0.0
    return [replace(row, arrival_s=row.arrival_s - start_s) for row in rows]


def rate_scale(rows: Sequence[TraceRow], factor: float) -> list[TraceRow]:
    """Multiply the arrival rate by `factor`: every arrival time is divided by it."""
    if not (math.isfinite(factor) and factor > 0.0):
        raise WorkloadError(f"rate scale must be a number > 0, got {factor!r}")
    return [replace(row, arrival_s=row.arrival_s / factor) for row in rows]
