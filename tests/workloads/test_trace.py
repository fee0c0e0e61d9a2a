"""Is the canonical trace read and written exactly, and is every malformed line named?"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import shared_data
from workloads.errors import WorkloadError
from workloads.traces.reading import Reading
from workloads.traces.row import BLOCK_TOKENS, rebased
from workloads.traces.trace import TraceError, TraceRow, read_trace, write_trace

GOOD = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [3, 4]}'


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_reads_the_canonical_form(tmp_path: Path) -> None:
    line = {
        "timestamp": 1500.5,
        "input_length": 7,
        "output_length": 9,
        "extra": {"vllm_xargs": {"slo_ttft_ms": 500, "slo_class": "chat"}, "model": "x"},
        "tenant": "a",
        "delay": 3,
    }
    rows = read_trace(written(tmp_path, GOOD, "", json.dumps(line)))
    own = rows[1].hash_ids
    assert len(own) == 1
    assert own[0] > 4
    assert rows == [
        TraceRow(0.0, 600, 5, (3, 4)),
        TraceRow(1.5005, 7, 9, own, {"slo_ttft_ms": 500, "slo_class": "chat"}, "a"),
    ]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_text("\ufeff" + GOOD)
    assert len(read_trace(path)) == 1


def test_writes_what_mooncake_writes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_trace(path, [TraceRow(3.0, 600, 5, (1, 2)), TraceRow(3.25, 4, 5, (3,), {}, "b")])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]},
        {
            "timestamp": 3250,
            "input_length": 4,
            "output_length": 5,
            "hash_ids": [3],
            "tenant": "b",
        },
    ]


@st.composite
def traces(draw: st.DrawFn) -> list[TraceRow]:
    times = sorted(draw(st.lists(st.floats(0, 1e6), min_size=1, max_size=20)))
    rows = []
    for time_s in times:
        prompt = draw(st.integers(1, 5 * BLOCK_TOKENS))
        blocks = -(-prompt // BLOCK_TOKENS)
        ids = draw(st.lists(st.integers(0, 2**62), min_size=1, max_size=blocks))
        xargs = draw(
            st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.booleans())
        )
        tenant = draw(st.text(max_size=8))
        rows.append(
            TraceRow(time_s, prompt, draw(st.integers(1, 10**6)), tuple(ids), xargs, tenant)
        )
    return rows


@settings(max_examples=40, deadline=None)
@given(rows=traces())
def test_round_trip(rows: list[TraceRow], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    write_trace(path, rows)
    milliseconds = Reading(time_unit="ms", block_tokens=BLOCK_TOKENS)
    back = read_trace(path, reading=milliseconds)
    for before, after in zip(rebased(rows), back, strict=True):
        assert after.arrival_s == pytest.approx(before.arrival_s, abs=1e-8, rel=1e-12)
        assert (after.prompt_tokens, after.output_tokens) == (
            before.prompt_tokens,
            before.output_tokens,
        )
        assert (after.hash_ids, after.xargs, after.tenant) == (
            before.hash_ids,
            before.xargs,
            before.tenant,
        )
    write_trace(path, back)
    again = read_trace(path, reading=milliseconds)  # a second trip changes nothing
    for first, second in zip(back, again, strict=True):
        assert second.arrival_s == pytest.approx(first.arrival_s, abs=2e-9)
        assert replace(second, arrival_s=first.arrival_s) == first


def line(**changes: object) -> str:
    record = {"timestamp": 1, "input_length": 600, "output_length": 5, **changes}
    return json.dumps({k: v for k, v in record.items() if v != "absent"})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object, got list"),
        ("null", "must be a JSON object, got NoneType"),
        ("[" * 100_000, "maximum recursion"),
        (line(timestamp="absent"), "timestamp: missing"),
        (line(input_length="absent"), "input_length: missing"),
        (line(output_length="absent"), "output_length: missing"),
        (line(timestamp=-1), "timestamp: must be"),
        (line(timestamp="5"), "timestamp: must be"),
        (line(timestamp=True), "timestamp: must be"),
        (line(timestamp=None), "timestamp: must be"),
        (line(timestamp=float("nan")), "NaN is no JSON number"),
        (line().replace('"timestamp": 1', '"timestamp": 1e999'), "timestamp: must be"),
        (line(timestamp=10**400), "timestamp: must be"),
        (line().replace("600", "6" * 5000), "integer"),
        (line(input_length=-5), "input_length: must be"),
        (line(input_length=6.0), "input_length: must be"),
        (line(input_length=True), "input_length: must be"),
        (line(output_length="9"), "output_length: must be"),
        (line(output_length=10**8), "output_length: must be"),
        (line(hash_ids=5), "hash_ids: must be a list"),
        (line(hash_ids=[1.5]), "hash_ids: must be integers"),
        (line(hash_ids=[-1]), "hash_ids: must be integers"),
        (line(hash_ids=[2**63]), "hash_ids: must be integers"),
        (line(hash_ids=[1, 2, 3]), "3 hash_ids, but 600 prompt tokens are 2 blocks"),
        (line(tenant=4), "tenant: must be a string"),
        (line(extra=[]), "extra: must be an object"),
        (line(extra={"vllm_xargs": 1}), "extra.vllm_xargs: must be an object"),
        (line(extra={"vllm_xargs": {"a": [1]}}), "extra.vllm_xargs.a: must be flat"),
        (line(extra={"vllm_xargs": {"slo_ttft_ms": -5}}), "extra.vllm_xargs.slo_ttft_ms: must"),
        (line(extra={"vllm_xargs": {"slo_on_miss": "x"}}), "slo_on_miss: must be one of"),
        (line(extra={"vllm_xargs": {"predicted_output_tokens": 0}}), "predicted_output_tokens"),
        ("\udcff", "no UTF-8 text"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: str, reason: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes((GOOD + "\n" + bad + "\n").encode(errors="surrogateescape"))
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert (caught.value.path, caught.value.line) == (path, 2)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 200


def test_rows_out_of_order_are_sorted(tmp_path: Path) -> None:
    path = written(
        tmp_path, line(timestamp=500, input_length=1), line(timestamp=500, input_length=2),
        line(timestamp=100, input_length=3),
    )  # fmt: skip
    rows = read_trace(path)
    assert [(row.arrival_s, row.prompt_tokens) for row in rows] == [(0.0, 3), (0.4, 1), (0.4, 2)]


def test_an_empty_trace_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("{}")
    with pytest.raises(TraceError, match="timestamp: missing"):
        read_trace(path)
    path.write_text("")
    with pytest.raises(TraceError, match="unknown header"):
        read_trace(path)
    path.write_text(line(output_length=0) + "\n")
    with pytest.raises(TraceError, match=r"holds no requests \(1 failed ones dropped\)"):
        read_trace(path)


def test_rows_select_a_window(tmp_path: Path) -> None:
    path = written(tmp_path, *(line(timestamp=1000 * t) for t in range(4)))
    window = read_trace(path, "1:3")
    assert [row.arrival_s for row in window] == [0.0, 1.0]
    # ids are those of the whole file, whatever the window
    assert [row.hash_ids for row in window] == [r.hash_ids for r in read_trace(path)[1:3]]
    with pytest.raises(WorkloadError, match="has 4 rows"):
        read_trace(path, "1:5")


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_trace_error(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "bytes"
    path.write_bytes(data)
    with contextlib.suppress(TraceError):
        assert read_trace(path)


def test_reference_csv_survives_the_trip(tmp_path: Path) -> None:
    rows = read_trace(shared_data("traces/servegen_deepseek-r1_1h.csv"), "0:500")
    path = tmp_path / "r1.jsonl"
    write_trace(path, rows)
    back = read_trace(path)
    assert [(r.prompt_tokens, r.output_tokens, r.hash_ids, r.tenant) for r in back] == [
        (r.prompt_tokens, r.output_tokens, r.hash_ids, r.tenant) for r in rows
    ]
    assert max(abs(a.arrival_s - b.arrival_s) for a, b in zip(rows, back, strict=True)) < 1e-8
