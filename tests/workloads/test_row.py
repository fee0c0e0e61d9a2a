"""Do slices, scales and hash ids of rows come out as computed by hand?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.traces.row import (
    TraceRow,
    block_count,
    parse_rows,
    rate_scale,
    rebased,
    slice_rows,
    with_unique_hash_ids,
)

ROWS = [TraceRow(float(t), 10 * (t + 1), t + 1) for t in range(5)]


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 1), (511, 1), (512, 1), (513, 2), (1024, 2)])
def test_block_count(tokens: int, blocks: int) -> None:
    assert block_count(tokens) == blocks


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2:4", (2, 4)), (":3", (0, 3)), ("2:", (2, None)), (":", (0, None)), (" 1:2 ", (1, 2))],
)
def test_parse_rows(text: str, expected: tuple[int, int | None]) -> None:
    assert parse_rows(text) == expected


@pytest.mark.parametrize(
    "text", ["", "3", "4:2", "2:2", "-1:2", "a:b", "1:2:3", "1.0:2", "٣:٤", "9" * 50 + ":"]
)
def test_parse_rows_refuses(text: str) -> None:
    with pytest.raises(WorkloadError, match="A:B"):
        parse_rows(text)


def test_slice_starts_at_zero() -> None:
    window = slice_rows(ROWS, "2:4")
    assert [(r.arrival_s, r.prompt_tokens) for r in window] == [(0.0, 30), (1.0, 40)]
    assert slice_rows(ROWS, None) == ROWS


@pytest.mark.parametrize("text", ["5:", "5:6", "2:6"])
def test_slice_beyond_the_end_is_an_error(text: str) -> None:
    with pytest.raises(WorkloadError, match="has 5 rows"):
        slice_rows(ROWS, text)


def test_rate_scale_divides_times_only() -> None:
    fast = rate_scale(ROWS, 2.0)
    assert [r.arrival_s for r in fast] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert [r.prompt_tokens for r in fast] == [r.prompt_tokens for r in ROWS]


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_rate_scale_refuses(factor: float) -> None:
    with pytest.raises(WorkloadError, match="rate scale"):
        rate_scale(ROWS, factor)


def test_rebased_of_nothing_is_nothing() -> None:
    assert rebased([]) == []


def test_unique_ids_avoid_the_given_ones() -> None:
    rows = [TraceRow(0, 513, 1), TraceRow(1, 600, 1, (7, 9)), TraceRow(2, 5, 1)]
    assert [r.hash_ids for r in with_unique_hash_ids(rows)] == [(10, 11), (7, 9), (12,)]
    replaced = with_unique_hash_ids(rows, replace_all=True)
    assert [r.hash_ids for r in replaced] == [(0, 1), (2, 3), (4,)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5000), max_size=30))
def test_unique_ids_are_unique_and_cover_the_prompt(lengths: list[int]) -> None:
    rows = with_unique_hash_ids([TraceRow(0.0, tokens, 1) for tokens in lengths])
    ids = [i for row in rows for i in row.hash_ids]
    assert len(ids) == len(set(ids)) == sum(map(block_count, lengths))


@pytest.mark.parametrize(
    "bad",
    [
        {"arrival_s": -1.0},
        {"arrival_s": math.nan},
        {"prompt_tokens": 0},
        {"output_tokens": 0},
        {"prompt_tokens": 10**9},
        {"hash_ids": (1, 2)},
    ],
)
def test_row_checks_its_ranges(bad: dict[str, object]) -> None:
    good: dict[str, object] = {"arrival_s": 0.0, "prompt_tokens": 512, "output_tokens": 1}
    with pytest.raises(ValueError, match=r"must be|hash_ids"):
        TraceRow(**{**good, **bad})  # type: ignore[arg-type]
