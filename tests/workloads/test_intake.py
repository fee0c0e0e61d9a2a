"""Is every trace read as it is meant, or refused in one line that says what to do?"""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from tests.workloads.trace_files import (
    AZURE,
    BURSTGPT,
    chained,
    json_lines,
    mooncake,
    refused,
    saved,
    times,
)
from workloads.errors import WorkloadError
from workloads.traces.intake import read_intake
from workloads.traces.reading import Reading
from workloads.traces.row import TraceRow, in_common_blocks
from workloads.traces.ticks import spread_ticks
from workloads.traces.trace import read_trace, write_trace


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        f"{AZURE}\r\n2024-01-01 00:00:00+00:00,5,6\r\n2024-01-01 00:00:02.5+00:00,7,8\r\n",
        '"TIMESTAMP","ContextTokens","GeneratedTokens"\n'
        '"2024-01-01 00:00:00","5","6"\n"2024-01-01 00:00:02.5000000","7","8"\n',
        "arrival_s,prompt_tokens,output_tokens\n0,5,6\n2.5,7,8\n",
        '{"timestamp": 0, "input_length": 5, "output_length": 6}\n'
        '{"timestamp": 2500, "input_length": 7, "output_length": 8}\n',
    ],
)
def test_gzip_and_byte_order_marks_make_no_difference(
    tmp_path: Path, text: str, packed: bool, bom: bytes
) -> None:
    data = bom + text.encode()
    found = read_intake(saved(tmp_path, gzip.compress(data) if packed else data))
    assert times(found) == [0.0, 2.5]
    assert [(r.prompt_tokens, r.output_tokens) for r in found.rows] == [(5, 6), (7, 8)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            gzip.compress(mooncake(range(0, 90_000, 999)).encode(), mtime=0)[:-9],
            "damaged gzip data",
        ),
        (gzip.compress(b"x" * 9, mtime=0)[:12] + b"\xff" * 30, "damaged gzip data"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"\xfd7zXZ\x00...", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"PK\x03\x04....", "zip"),
        (b"PAR1....", "Parquet"),
        ('{"timestamp": 0}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refused(saved(tmp_path, data))


def test_a_directory_is_no_trace(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "absent")


# --- failed requests of a log


@pytest.mark.parametrize(
    "text",
    [
        f"{AZURE}\n2024-01-01 00:00:00,0,6\n2024-01-01 00:00:01,5,6\n2024-01-01 00:00:03,7,0\n",
        f"{BURSTGPT}\n0,m,0,6,6,x\n1,m,5,6,11,x\n3,m,7,0,7,x\n",
        "arrival_s,prompt_tokens,output_tokens\n0,0,6\n1,5,6\n3,7,0\n",
        json_lines(
            {"timestamp": 1000 * t, "input_length": p, "output_length": o}
            for t, p, o in ((0, 0, 6), (1, 5, 6), (3, 7, 0))
        ),
    ],
)
def test_rows_without_tokens_are_dropped_and_counted_in_every_kind(
    tmp_path: Path, text: str
) -> None:
    found = read_intake(saved(tmp_path, text))
    assert [(r.arrival_s, r.prompt_tokens) for r in found.rows] == [(0.0, 5)]
    assert found.dropped == 2
    assert "1 used, 2 failed dropped" in found.lines("t")[0]


def test_nothing_but_failed_ones_is_no_trace(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n0,0,6\n1,5,0\n"
    assert refused(saved(tmp_path, text)) == "holds no requests (2 failed ones dropped)"


# --- coarse clocks


def test_a_clock_of_whole_seconds_is_told_and_undone(tmp_path: Path) -> None:
    stamps = (9, 9, 9, 10, 10, 14)
    path = saved(tmp_path, f"{BURSTGPT}\n" + "".join(f"{t},m,5,5,10,x\n" for t in stamps))
    found = read_intake(path)
    assert times(found) == [0.0, 0.0, 0.0, 1.0, 1.0, 5.0]
    assert "3 requests come at the instant of another: --spread-tick-s 1" in found.lines("t")[1]
    spread = read_intake(path, None, Reading(spread_tick_s=1.0))
    assert len(set(times(spread))) == 6
    assert times(spread) == sorted(times(spread))
    assert len(spread.lines("t")) == 2
    assert read_intake(path, None, Reading(spread_tick_s=1.0), seed=1).rows != spread.rows


def test_one_instant_is_told_by_the_failed_rows_around_it(tmp_path: Path) -> None:
    rows = "5,m,5,5,10,x\n5,m,6,6,12,x\n6,m,7,0,7,x\n"
    found = read_intake(saved(tmp_path, f"{BURSTGPT}\n{rows}"))
    assert "(one instant)" in found.lines("t")[0]
    assert "--spread-tick-s 1" in found.lines("t")[1]


def test_a_fine_clock_is_not_spoken_of(tmp_path: Path) -> None:
    found = read_intake(saved(tmp_path, mooncake((0, 0, 250, 900, 900))))
    assert len(found.lines("t")) == 1


# --- windows


@pytest.mark.parametrize("spread_s", [0.0, 3.0])
def test_a_window_is_that_part_of_the_whole(tmp_path: Path, spread_s: float) -> None:
    reading = Reading(spread_tick_s=spread_s)
    path = saved(tmp_path, mooncake(3000 * (i // 7) for i in range(100)))
    whole = read_intake(path, None, reading, 5).rows
    for first, end in ((0, 10), (13, 50), (90, 100), (99, 100)):
        window = read_intake(path, f"{first}:{end}", reading, 5).rows
        start_s = whole[first].arrival_s
        assert [r.arrival_s for r in window] == pytest.approx(
            [r.arrival_s - start_s for r in whole[first:end]], abs=1e-9
        )
        assert [r.hash_ids for r in window] == [r.hash_ids for r in whole[first:end]]
    if spread_s:
        every = [TraceRow(r.arrival_s, 64, 8) for r in read_intake(path).rows]
        again = spread_ticks(every, spread_s, 5)
        assert [r.arrival_s for r in whole] == pytest.approx(
            [r.arrival_s - again[0].arrival_s for r in again], abs=1e-9
        )


def test_a_window_counts_rows_of_the_file_and_says_what_it_dropped(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 3},7\n" for i in range(30))
    path = saved(tmp_path, f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    found = read_intake(path, "10:20")
    assert len(found.rows) + found.dropped == 10
    assert found.dropped == 3
    with pytest.raises(WorkloadError, match="has 30 rows"):
        read_intake(path, "10:31")
    with pytest.raises(WorkloadError, match="has 30 rows"):
        read_intake(path, "30:")


def test_what_lies_outside_a_window_costs_and_breaks_nothing(tmp_path: Path) -> None:
    before = '{"no": "trace row"}\n' * 20_000
    path = saved(tmp_path, mooncake((0, 500)) + before + mooncake((900, 1900)) + '{"broken"\n' * 9)
    tracemalloc.start()
    found = read_intake(path, "20002:20004")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert times(found) == [0.0, 1.0]
    assert peak_bytes < 3_000_000  # the rows before it are passed over, not kept


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = saved(tmp_path, mooncake((0, 1000)))
    first = read_intake(path)
    assert read_intake(path) is first
    path.write_text(mooncake((0, 1000, 2000)))
    os.utime(path, (1, 1))
    assert len(read_intake(path).rows) == 3


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = saved(tmp_path, chained((521, 700, 90), 16, 33 - 27))
    rows = read_trace(path, None, Reading(block_tokens=16))
    out = tmp_path / "out.jsonl"
    write_trace(out, rows)
    assert [r.hash_ids for r in read_trace(out)] == [r.hash_ids for r in in_common_blocks(rows)]


@pytest.mark.parametrize("text", ['[{"id": "a", "conversations": []}]', '[ {"messages": []}]'])
def test_conversations_are_no_trace(tmp_path: Path, text: str) -> None:
    assert "python -m workloads.traces.sharegpt" in refused(saved(tmp_path, text))
