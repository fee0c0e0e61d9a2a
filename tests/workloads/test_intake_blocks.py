"""Are blocks of the prefix cache read for what they are?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workloads.trace_files import (
    chained,
    json_lines,
    refused,
    saved,
    times,
)
from workloads.errors import WorkloadError
from workloads.mixes import get_mix
from workloads.request import as_trace, with_mix
from workloads.traces.intake import read_intake
from workloads.traces.reading import Reading
from workloads.traces.row import TraceRow, in_common_blocks


def test_blocks_of_another_size_are_read_exactly_when_said(tmp_path: Path) -> None:
    path = saved(tmp_path, chained((521, 700, 90), 16, 5))
    assert "--block-tokens 16" in refused(path)
    found = read_intake(path, None, Reading(block_tokens=16))
    assert [row.block_tokens for row in found.rows] == [16] * 3
    assert len(found.rows[0].hash_ids) == 33
    assert "blocks of 16 tokens" in found.lines("t")[0]
    requests = with_mix(found.rows, get_mix("six"), 0)
    assert [r.block_tokens for r in requests] == [16] * 3
    assert [r.block_tokens for r in as_trace(requests)] == [16] * 3


def test_larger_blocks_than_said_are_in_doubt_too(tmp_path: Path) -> None:
    path = saved(tmp_path, chained((4100, 5000, 9000), 1024, 2))
    assert "--block-tokens 1024" in refused(path)


def test_fewer_ids_than_blocks_are_no_reason_for_doubt(tmp_path: Path) -> None:
    sizes = ((600, [1]), (1300, [1]), (2600, [1]), (4000, [1, 2, 3, 4]))
    rows = [
        {"timestamp": 1000 * i, "input_length": p, "output_length": 1, "hash_ids": ids}
        for i, (p, ids) in enumerate(sizes)
    ]
    assert read_intake(saved(tmp_path, json_lines(rows))).block_tokens == 512


def test_a_qwen_trace_is_known_by_its_keys(tmp_path: Path) -> None:
    row = {"chat_id": 4, "parent_chat_id": -1, "turn": 1, "type": "text", "output_length": 9}
    ids = {"input_length": 40, "hash_ids": [7, 8, 9]}
    text = json_lines({**row, **ids, "timestamp": t} for t in (3.5, 70.25))
    found = read_intake(saved(tmp_path, text))
    assert (found.kind, found.time_unit, found.block_tokens) == ("qwen", "s", 16)
    assert times(found) == [0.0, 66.75]
    assert "times are s, blocks of 16 tokens" in found.lines("t")[0]


def test_small_blocks_become_common_ones_without_new_sharing() -> None:
    first = TraceRow(0.0, 1100, 1, tuple(range(69)), block_tokens=16)
    same_start = TraceRow(0.0, 1100, 1, (*range(40), *range(500, 529)), block_tokens=16)
    stranger = TraceRow(0.0, 1100, 1, tuple(range(900, 969)), block_tokens=16)
    a, b, c = in_common_blocks([first, same_start, stranger])
    assert [len(row.hash_ids) for row in (a, b, c)] == [3, 3, 3]
    assert a.hash_ids[0] == b.hash_ids[0]
    assert not set(a.hash_ids[1:]) & set(b.hash_ids[1:])
    assert not set(c.hash_ids) & set(a.hash_ids + b.hash_ids)


def test_large_blocks_are_cut() -> None:
    rows = [TraceRow(0.0, 1700, 1, (5, 6), block_tokens=1024) for _ in range(2)]
    a, b = in_common_blocks(rows)
    assert a.hash_ids == b.hash_ids
    assert len(set(a.hash_ids)) == 4


def test_a_table_names_no_blocks(tmp_path: Path) -> None:
    path = saved(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,5,6\n")
    with pytest.raises(WorkloadError, match="names no blocks"):
        read_intake(path, None, Reading(block_tokens=16))
