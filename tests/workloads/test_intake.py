"""Is every trace read as it is meant, or refused in one line that says what to do?"""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import TraceError, WorkloadError
from workloads.mixes import get_mix
from workloads.request import as_trace, with_mix
from workloads.traces.intake import Intake, read_intake
from workloads.traces.reading import Reading
from workloads.traces.row import TraceRow, in_common_blocks
from workloads.traces.ticks import spread_ticks
from workloads.traces.trace import read_trace, write_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def saved(tmp_path: Path, content: str | bytes, name: str = "trace") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mooncake(times: Iterable[float], **more: object) -> str:
    sizes = {"input_length": 64, "output_length": 8}
    return json_lines({"timestamp": t, **sizes, **more} for t in times)


def times(found: Intake) -> list[float]:
    return [round(row.arrival_s, 6) for row in found.rows]


def refused(path: Path, reading: Reading = Reading(), rows: str | None = None) -> str:  # noqa: B008
    with pytest.raises(TraceError) as caught:
        read_intake(path, rows, reading)
    assert "docs/traces.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.reason


# --- how a file is packed


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


# --- units of time


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
def test_every_unit_is_read_as_it_is_said(tmp_path: Path, unit: str, factor: int) -> None:
    path = saved(tmp_path, mooncake(factor * t for t in range(0, 60, 2)))
    found = read_intake(path, None, Reading(time_unit=unit))
    assert times(found) == [float(t) for t in range(0, 60, 2)]
    assert f"times are {unit}" in found.lines("t")[0]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ns", 10**9)])
@pytest.mark.parametrize("rows", [None, "15:20"])
def test_a_unit_that_the_rates_speak_against_is_not_guessed(
    tmp_path: Path, unit: str, factor: int, rows: str | None
) -> None:
    """One request a second, read as milliseconds, is a thousand a second; nanoseconds, none."""
    reason = refused(saved(tmp_path, mooncake(factor * t for t in range(30))), rows=rows)
    assert f"--time-unit {unit}" in reason
    assert "(or ms, if it is so)" in reason


def test_milliseconds_that_look_like_it_are_no_question(tmp_path: Path) -> None:
    assert times(read_intake(saved(tmp_path, mooncake(range(0, 60_000, 1000)))))[:2] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("us", 10**6), ("ns", 10**9), ("ms", 10**3)]
)
def test_times_since_1970_tell_their_unit(tmp_path: Path, unit: str, factor: int) -> None:
    path = saved(tmp_path, mooncake(factor * (1_700_000_000 + t) for t in (0, 7)))
    if unit != "ms":
        assert f"--time-unit {unit}" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit=unit))) == [0.0, 7.0]


def test_a_csv_in_milliseconds_since_1970_is_not_taken_for_seconds(tmp_path: Path) -> None:
    rows = "".join(f"{1_700_000_000_000 + 500 * i},m,9,9,18,x\n" for i in range(4))
    path = saved(tmp_path, f"{BURSTGPT}\n{rows}")
    assert "--time-unit ms" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit="ms"))) == [0.0, 0.5, 1.0, 1.5]


def test_numbers_where_dates_belong_need_a_unit(tmp_path: Path) -> None:
    path = saved(tmp_path, f"{AZURE}\n100,5,6\n2600,7,8\n")
    assert "say --time-unit s, ms, us or ns" in refused(path)
    assert times(read_intake(path, None, Reading(time_unit="ms"))) == [0.0, 2.5]


def test_dates_are_dates_in_every_kind(tmp_path: Path) -> None:
    path = saved(tmp_path, mooncake(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.250+00:00"]))  # type: ignore[list-item]
    assert times(read_intake(path)) == [0.0, 1.25]
    with pytest.raises(WorkloadError, match="are dates"):
        read_intake(path, None, Reading(time_unit="s"))


@pytest.mark.parametrize(
    "stamp", ["2024-13-01 00:00:00", "0001-01-01 00:00:00", "1969-12-31 23:59:59", "2024-01-01"]
)
def test_a_date_that_is_none(tmp_path: Path, stamp: str) -> None:
    path = saved(tmp_path, f"{AZURE}\n{stamp},5,6\n")
    with pytest.raises(TraceError, match="line 2: TIMESTAMP"):
        read_intake(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time_unit": "min"}, "--time-unit must be one of s, ms, us, ns"),
        ({"block_tokens": 0}, "--block-tokens must be"),
        ({"spread_tick_s": -1.0}, "--spread-tick-s"),
        ({"spread_tick_s": float("nan")}, "--spread-tick-s"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        Reading(**changes)


# --- blocks


def chained(tokens: Iterable[int], block: int, shared: int) -> str:
    """Rows whose first `shared` blocks are the same, the rest their own."""
    rows = []
    for number, length in enumerate(tokens):
        blocks = -(-length // block)
        own = range(1000 * (number + 1), 1000 * (number + 1) + blocks - shared)
        rows.append(
            {
                "timestamp": 1000 * number,
                "input_length": length,
                "output_length": 4,
                "hash_ids": [*range(shared), *own],
            }
        )
    return json_lines(rows)


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
