"""Does every file give requests or one clear line, whatever it holds, and every stream a verdict?

Files of every kind, damaged: bytes changed, left out, doubled, cut off, packed twice. Run longer
with SCORPIO_FUZZ_EXAMPLES=100000.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import TraceError, WorkloadError
from workloads.replay.sse import EventTooLong, SseSplitter
from workloads.replay.token_stream import TokenStream
from workloads.results.records import Outcome
from workloads.traces.intake import read_intake
from workloads.traces.reading import HEAD_ROWS, UNITS_S, Reading
from workloads.traces.sharegpt import conversations
from workloads.traces.trace import read_trace, write_trace

T = TypeVar("T")
EXAMPLES = int(os.environ.get("SCORPIO_FUZZ_EXAMPLES", "150"))
_JSON = '{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": [%d, 7]}\n'
SEEDS = [
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    + "".join(f"2024-05-10 00:00:0{i}.5+00:00,{600 + i},{i}\r\n" for i in range(9)),
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    + "".join(f"{5 + i // 2},m,{i},{9 + i},{i},x\n" for i in range(9)),
    "arrival_s,prompt_tokens,output_tokens,tenant,n_hash_blocks\n"
    + "".join(f"{i / 4},600,{i},a,2\n" for i in range(9)),
    "".join(_JSON % (1000 * i, 600 + i, i, i) for i in range(9)),
    '{"timestamp": 1, "input_length": 9, "output_length": 4, "tenant": "a", "extra":'
    ' {"vllm_xargs": {"slo_ttft_ms": 500, "slo_on_miss": "wait"}}}\n',
    '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 40,'
    ' "output_length": 20, "type": "text", "turn": 1, "hash_ids": [0, 1, 2]}\n',
    '[{"id": "a", "conversations": [{"from": "human", "value": "w"}, {"from": "gpt",'
    ' "value": "a"}]}]',
]
NASTY = [
    b"", b"\n", b"\r", b"\0", b'"', b",", b"{", b"[", b"]", b"}", b"-", b"e999", b"NaN", b"null",
    b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"9" * 400, b"[" * 3000, b"0", b"1e30", b"true",
    b"\\ud800",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(NASTY) | st.binary(max_size=4)),
    max_size=4,
)
WINDOWS = st.none() | st.tuples(st.integers(0, 9), st.integers(1, 4)).map(
    lambda pair: f"{pair[0]}:{pair[0] + pair[1]}"
)
READINGS = st.builds(
    Reading,
    time_unit=st.none() | st.sampled_from(sorted(UNITS_S)),
    block_tokens=st.none() | st.sampled_from([1, 16, 512, 700, 1024]),
    spread_tick_s=st.sampled_from([0.0, 1.0]),
)


def tried(act: Callable[[], T]) -> T | WorkloadError:
    """What an act gives, or the one kind of error that it may end with."""
    try:
        return act()
    except WorkloadError as error:
        return error


def damaged(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, left_out, put_in in edits:
        at = int(where * len(seed))
        seed = seed[:at] + put_in + seed[at + left_out :]
    return seed


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=EDITS,
    packed=st.booleans(),
    edits_of_packed=EDITS | st.just([]),
    rows=WINDOWS,
    reading=READINGS,
)
def test_rows_or_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    seed: str,
    edits: list[tuple[float, int, bytes]],
    packed: bool,
    edits_of_packed: list[tuple[float, int, bytes]],
    rows: str | None,
    reading: Reading,
) -> None:
    data = damaged(seed.encode(), edits)
    if packed:
        data = damaged(gzip.compress(data), edits_of_packed)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    found = tried(lambda: read_intake(path, rows, reading))
    if isinstance(found, WorkloadError):
        assert "\n" not in str(found)
        assert len(str(found)) < 1200
        assert not isinstance(found, TraceError) or (found.path == path and found.line >= 1)
        return
    assert found.rows
    assert found.rows[0].arrival_s == 0.0
    arrivals = [row.arrival_s for row in found.rows]
    assert arrivals == sorted(arrivals)
    assert all(line.isprintable() for line in found.lines("name"))
    refused = tried(lambda: write_trace(path, found.rows))
    if refused is not None:
        assert "cannot be written as blocks" in str(refused)
        return
    plainly = Reading(time_unit="ms", block_tokens=512)
    assert len(read_trace(path, None, plainly)) == len(found.rows)


@settings(max_examples=EXAMPLES, deadline=None)
@given(edits=EDITS)
def test_conversations_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "conversations"
    path.write_bytes(damaged(SEEDS[-1].encode(), edits))
    try:
        pairs = list(conversations(path))
    except TraceError:
        return
    assert all(isinstance(text, str) for pair in pairs for text in pair)


STREAM = b"".join(
    b"data: " + json.dumps(event).encode() + b"\n\n"
    for event in (
        {"choices": [{"text": "", "finish_reason": None}], "usage": {"completion_tokens": 0}},
        {"choices": [{"text": "a", "token_ids": [1]}], "usage": {"completion_tokens": 1}},
        {"choices": [{"delta": {"content": "b"}, "logprobs": {"content": [{}]}}]},
        {"choices": [{"text": "c", "finish_reason": "stop", "stop_reason": None}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        {"error": {"message": "x", "code": 500}},
    )
) + (b"event: error\ndata: {}\n\n: ping\n\ndata: [DONE]\n\n")


@settings(max_examples=EXAMPLES, deadline=None)
@given(edits=EDITS, cuts=st.lists(st.floats(0, 1), max_size=6), without_error=st.booleans())
def test_a_stream_has_one_verdict_wherever_it_is_cut(
    edits: list[tuple[float, int, bytes]], cuts: list[float], without_error: bool
) -> None:
    data = damaged(STREAM[: STREAM.index(b'data: {"error')] if without_error else STREAM, edits)
    edges = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole, in_parts = told([data]), told(parts)
    assert whole.verdict() == in_parts.verdict()
    assert whole.output_tokens == in_parts.output_tokens
    verdict = whole.verdict()
    assert (verdict.outcome is Outcome.REJECTED) == (verdict.reject_reason is not None)
    assert (verdict.error or "").isprintable()
    if verdict.outcome is Outcome.FINISHED:
        assert whole.token_times_s


def told(parts: list[bytes]) -> TokenStream:
    splitter, stream = SseSplitter(), TokenStream()
    try:
        for part in parts:
            for event, data in splitter.feed(part):
                stream.feed(1.0, event, data)
                if stream.error is not None:  # as the client does
                    return stream
        for event, data in splitter.close():
            stream.feed(1.0, event, data)
    except EventTooLong:
        stream.error = "too long"
    return stream


@pytest.mark.parametrize(
    "data",
    [
        b"{" * 2_000_000,
        b"\n" * 2_000_000,
        b'{"timestamp": ' + b"1" * 1_000_000,
        b"arrival_s,prompt_tokens,output_tokens\n" + b'"' * 1_000_000,
        b"arrival_s,prompt_tokens,output_tokens\n" + b"1,2,3\n" * (HEAD_ROWS + 5) + b"x",
        gzip.compress(b"\0" * 80_000_000),
    ],
    ids=["braces", "blank", "digits", "quotes", "late", "bomb"],
)
def test_large_and_hostile(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "large"
    path.write_bytes(data)
    with pytest.raises(TraceError) as caught:
        read_intake(path)
    assert len(str(caught.value)) < 600
