"""Are other people's logs read by column name, with failures counted and mistakes named?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import shared_data
from workloads.errors import TraceError, WorkloadError
from workloads.traces.convert import convert, lost_prefixes
from workloads.traces.intake import read_intake, sniff
from workloads.traces.reading import Reading, seconds_of
from workloads.traces.row import TraceRow
from workloads.traces.ticks import spread_ticks
from workloads.traces.trace import read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
    "2023-11-16 18:16:00.0000000,700,0\r\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,0,472,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n"
    "118,GPT-4,417,276,693,API log\n"
)
REFERENCE = "prompt_tokens,arrival_s,output_tokens,client,other\n513,1.5,7,a,x\n4,1.75,8,b,y\n"


def saved(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode())
    return path


def summary(rows: Iterable[TraceRow]) -> list[tuple[float, int, int]]:
    return [(round(r.arrival_s, 6), r.prompt_tokens, r.output_tokens) for r in rows]


def test_azure(tmp_path: Path) -> None:
    table = read_intake(saved(tmp_path, AZURE))
    assert summary(table.rows) == [(0.0, 374, 44), (4.314579, 396, 109)]
    assert table.dropped == 1


def test_burstgpt_drops_failures_and_starts_at_the_first_kept_row(tmp_path: Path) -> None:
    table = read_intake(saved(tmp_path, BURSTGPT))
    assert summary(table.rows) == [(0.0, 1087, 230), (73.0, 417, 276)]
    assert table.dropped == 1


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    rows = read_trace(saved(tmp_path, REFERENCE))
    assert summary(rows) == [(0.0, 513, 7), (0.25, 4, 8)]
    assert [r.tenant for r in rows] == ["a", "b"]
    assert [len(r.hash_ids) for r in rows] == [2, 1]
    assert len({i for r in rows for i in r.hash_ids}) == 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (AZURE, "azure"),
        (BURSTGPT, "burstgpt"),
        (REFERENCE, "reference"),
        ("\ufeff" + AZURE, "azure"),
        ('{"timestamp": 0}\n', "mooncake"),
    ],
)
def test_sniff(tmp_path: Path, text: str, kind: str) -> None:
    assert sniff(saved(tmp_path, text)).kind == kind


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "\x00\x01", '"unclosed', "[1, 2]"])
def test_unknown_header_names_the_valid_kinds(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError) as caught:
        sniff(saved(tmp_path, text))
    for name in ("mooncake", "azure", "burstgpt", "reference", "ContextTokens"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("arrival_s,prompt_tokens\n1,2\n", 1, "unknown header"),
        (
            "arrival_s,prompt_tokens,output_tokens,arrival_s\n1,2,3,4\n",
            1,
            "column 'arrival_s' is there twice",
        ),
        ("arrival_s,prompt_tokens,output_tokens\n", 1, "holds no requests"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2\n", 2, "2 fields, the header has 3"),
        ("arrival_s,prompt_tokens,output_tokens\nnan,2,3\n", 2, "arrival_s: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n-1,2,3\n", 2, "arrival_s: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n1_0,2,3\n", 2, "arrival_s: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2.5,3\n", 2, "prompt_tokens: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n1,-2,3\n", 2, "prompt_tokens: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n1,٣,3\n", 2, "prompt_tokens: must be"),
        ("arrival_s,prompt_tokens,output_tokens\n1,2,99999999999\n", 2, "at most"),
        ('arrival_s,prompt_tokens,output_tokens\n1,2,"3\n', 2, "not a CSV text"),
        (
            "arrival_s,prompt_tokens,output_tokens,n_hash_blocks\n1,600,3,38\n",
            2,
            "n_hash_blocks is 38, 600 tokens in blocks of 512 are 2",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, text: str, at: int, reason: str) -> None:
    path = saved(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert (caught.value.path, caught.value.line) == (path, at)
    assert reason in caught.value.reason


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"arrival_s,prompt_tokens,output_tokens\n1,2,3\n\xff\xfe,1,1\n")
    with pytest.raises(TraceError, match="not a CSV text"):
        read_trace(path)


def test_a_time_that_is_none_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, AZURE.replace("2023-11-16 18:15:50", "2023-11-99 18:15:50"))
    with pytest.raises(TraceError, match="line 3: TIMESTAMP"):
        read_trace(path)


def test_stamps() -> None:
    assert seconds_of("1970-01-01 00:00:01.5000000", None) == 1.5
    assert seconds_of("1970-01-01 01:00:00.25+01:00", None) == 0.25
    assert seconds_of("1970-01-01T00:01:00Z", None) == 60.0


def test_convert_counts_and_writes(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = convert(saved(tmp_path, BURSTGPT), out)
    assert (done.kind, len(done.rows), done.dropped) == ("burstgpt", 2, 1)
    assert summary(read_trace(out)) == [(0.0, 1087, 230), (73.0, 417, 276)]
    again = tmp_path / "again.jsonl"
    assert convert(out, again).kind == "mooncake"
    assert again.read_text() == out.read_text()


def test_convert_refuses_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(TraceError):
        convert(saved(tmp_path, AZURE + "x"), out)
    assert not out.exists()


def test_convert_says_what_is_lost(tmp_path: Path) -> None:
    line = '{"timestamp": 0, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]}\n'
    out = tmp_path / "out.jsonl"
    read = convert(saved(tmp_path, line), out, Reading(block_tokens=256))
    assert "blocks of 256" in (lost_prefixes(read) or "")
    assert lost_prefixes(convert(saved(tmp_path, line), out)) is None
    out.unlink()
    with pytest.raises(WorkloadError, match="blocks of 384 tokens cannot be written"):
        convert(saved(tmp_path, line), out, Reading(block_tokens=384))
    assert not out.exists()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    st.floats(0.1, 10.0),
    st.integers(0, 2**32),
)
def test_spread_keeps_order_and_ticks(ticks: list[int], tick_s: float, seed: int) -> None:
    rows = [TraceRow(t * tick_s, n + 1, 1) for n, t in enumerate(sorted(ticks))]
    spread = spread_ticks(rows, tick_s, seed)
    assert [r.prompt_tokens for r in spread] == [r.prompt_tokens for r in rows]
    times = [r.arrival_s for r in spread]
    assert times == sorted(times)
    for before, after in zip(rows, spread, strict=True):
        assert before.arrival_s <= after.arrival_s <= before.arrival_s + tick_s * (1 + 1e-9)
    assert spread == spread_ticks(rows, tick_s, seed)


@pytest.mark.parametrize("tick_s", [0.0, -1.0, float("nan"), 1e9])
def test_spread_refuses(tick_s: float) -> None:
    with pytest.raises(WorkloadError, match="tick"):
        spread_ticks([TraceRow(0.0, 1, 1)], tick_s)


def test_mooncake_ticks_become_near_poisson() -> None:
    rows = read_trace(shared_data("traces/mooncake_conversation.csv"))
    gaps = np.diff([row.arrival_s for row in spread_ticks(rows, 3.0, seed=1)])
    assert gaps.min() >= 0.0
    assert 0.95 < gaps.std() / gaps.mean() < 1.1  # it was 3.03 with the ticks


def test_blank_lines_and_quoted_headers_are_fine(tmp_path: Path) -> None:
    text = '\n"arrival_s","prompt_tokens","output_tokens"\n\n1,2,3\n\n'
    assert summary(read_trace(saved(tmp_path, text))) == [(0.0, 2, 3)]
    assert sniff(saved(tmp_path, '\n \n{"timestamp": 0}')).kind == "mooncake"
