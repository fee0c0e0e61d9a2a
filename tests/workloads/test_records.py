"""A record says what happened, computes the definitions exactly, and survives the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.results.record_files import (
    RecordError,
    RecordWriter,
    read_records,
    record_from_dict,
    record_to_dict,
    write_records,
)
from workloads.results.records import Miss, Outcome, RequestRecord


def record(**changes: Any) -> RequestRecord:
    """A good request: sent at 10 s, first token at 10.4 s, 11 tokens, last at 10.9 s."""
    values: dict[str, Any] = {
        "index": 0,
        "slo_class": "chat",
        "send_s": 10.0,
        "scheduled_send_s": 10.0,
        "prompt_tokens": 100,
        "output_tokens": 11,
        "ttft_slo_s": 0.5,
        "tpot_slo_s": 0.05,
        "outcome": Outcome.FINISHED,
        "http_status": 200,
        "first_token_s": 10.4,
        "last_token_s": 10.9,
        "ended_s": 10.91,
    }
    return RequestRecord(**(values | changes))


NO_TOKENS: dict[str, Any] = {"output_tokens": 0, "first_token_s": None, "last_token_s": None}


def rejected(**changes: Any) -> RequestRecord:
    values = {"outcome": Outcome.REJECTED, "reject_reason": "ttft_infeasible", **NO_TOKENS}
    return record(**(values | {"http_status": 429} | changes))


def test_definitions() -> None:
    r = record()
    assert r.ttft_s == pytest.approx(0.4)
    assert r.tpot_s == pytest.approx(0.05)  # 0.5 s over 10 gaps: exactly the SLO, and met
    assert r.e2e_s == pytest.approx(0.9)
    assert r.good
    assert r.miss is None


def test_ttft_counts_from_the_real_send_not_from_the_schedule() -> None:
    late = record(scheduled_send_s=9.0)
    assert late.ttft_s == pytest.approx(0.4)
    assert late.lateness_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "miss"),
    [
        ({"ttft_slo_s": 0.3999}, Miss.TTFT),
        ({"tpot_slo_s": 0.0499}, Miss.TPOT),
        ({"ttft_slo_s": 0.3999, "tpot_slo_s": 0.0499}, Miss.BOTH),
        ({"e2e_slo_s": 0.89}, Miss.E2E),
        ({"e2e_slo_s": 0.91}, None),
        ({"ttft_slo_s": math.inf, "tpot_slo_s": math.inf}, None),
    ],
)
def test_each_promise_can_be_broken(changes: dict[str, Any], miss: Miss | None) -> None:
    assert record(**changes).miss is miss
    assert record(**changes).good is (miss is None)


def test_one_token_has_no_tpot_and_only_ttft_counts() -> None:
    one = record(output_tokens=1, last_token_s=10.4, tpot_slo_s=1e-6)
    assert one.tpot_s is None
    assert one.good
    assert not record(output_tokens=1, last_token_s=10.4, ttft_slo_s=0.3).good


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_fast_tokens_do_not_make_a_failed_request_good(outcome: Outcome) -> None:
    broken = record(outcome=outcome)
    assert not broken.good
    assert broken.miss is None
    assert broken.e2e_s is None


def test_rejected_is_not_good() -> None:
    assert not rejected().good
    assert rejected().ttft_s is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": -1}, "index"),
        ({"ttft_slo_s": 0.0}, "ttft_slo_s"),
        ({"tpot_slo_s": math.nan}, "tpot_slo_s"),
        ({"send_s": math.inf}, "send_s"),
        ({"last_token_s": None}, "together"),
        ({"last_token_s": 10.3}, "before"),
        ({"output_tokens": 0}, "without an output token"),
        ({"token_times_s": (10.4, 10.9)}, "one time per output token"),
        (NO_TOKENS, "has a first token"),
        ({"reject_reason": "queue_full"}, "reject_reason"),
        ({"outcome": Outcome.REJECTED}, "reject_reason"),
        ({"outcome": Outcome.REJECTED, "reject_reason": "x"}, "never rejected after"),
        ({"predicted_ttft_s": -0.1}, "predicted_ttft_s"),
        ({"predicted_tpot_s": math.nan}, "predicted_tpot_s"),
    ],
)
def test_impossible_records_cannot_be_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        record(**changes)


times = st.floats(0.0, 1e6, allow_nan=False)
slos = st.one_of(st.just(math.inf), st.floats(1e-3, 1e4))


@st.composite
def any_record(draw: st.DrawFn) -> RequestRecord:
    outcome = draw(st.sampled_from(Outcome))
    has_tokens = outcome is Outcome.FINISHED or (
        outcome is not Outcome.REJECTED and draw(st.booleans())
    )
    # whole microseconds: token times are kept to that precision
    stamps = sorted(draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=5)))
    tokens = tuple(stamp / 1e6 for stamp in stamps) if has_tokens else None
    return RequestRecord(
        index=draw(st.integers(0, 10**6)),
        slo_class=draw(st.text(max_size=8)),
        tenant=draw(st.text(max_size=8)),
        send_s=draw(times),
        scheduled_send_s=draw(times),
        prompt_tokens=draw(st.integers(0, 10**6)),
        output_tokens=len(tokens) if tokens else 0,
        ttft_slo_s=draw(slos),
        tpot_slo_s=draw(slos),
        e2e_slo_s=draw(slos),
        outcome=outcome,
        reject_reason=draw(st.text(min_size=1)) if outcome is Outcome.REJECTED else None,
        http_status=draw(st.none() | st.integers(100, 599)),
        first_token_s=tokens[0] if tokens else None,
        last_token_s=tokens[-1] if tokens else None,
        token_times_s=tokens,
        preemptions=draw(st.integers(0, 9)),
        ended_s=draw(st.none() | times),
        error=draw(st.none() | st.text(max_size=20)),
        predicted_ttft_s=draw(st.none() | times),
        predicted_tpot_s=draw(st.none() | times),
    )


@given(any_record())
def test_json_round_trip_changes_nothing(one: RequestRecord) -> None:
    line = json.dumps(record_to_dict(one), allow_nan=False)
    assert record_from_dict(json.loads(line)) == one


def test_no_promise_is_null_on_disk() -> None:
    values = record_to_dict(record(ttft_slo_s=math.inf))
    assert values["ttft_slo_s"] is None
    assert values["e2e_slo_s"] is None


def test_file_round_trip(tmp_path: Path) -> None:
    records = [record(), rejected(index=1)]
    write_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_line_from_before_there_were_forecasts_is_read() -> None:
    old = record_to_dict(record())
    del old["predicted_ttft_s"], old["predicted_tpot_s"]
    assert record_from_dict(old) == record()


GOOD_LINE = json.dumps(record_to_dict(record()))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[1]", "JSON object"),
        ('{"index": 0}', "'slo_class' is missing"),
        (GOOD_LINE.replace('"tenant"', '"tenent"'), "unknown field 'tenent'"),
        (GOOD_LINE.replace('"finished"', '"done"'), "outcome must be one of finished, rejected"),
        (GOOD_LINE.replace('"index": 0', '"index": true'), "index must be a whole number"),
        (GOOD_LINE.replace('"send_s": 10.0', '"send_s": null'), "send_s must not be null"),
        (GOOD_LINE.replace('"send_s": 10.0', '"send_s": "10"'), "send_s must be a number"),
        (GOOD_LINE.replace('"send_s": 10.0', '"send_s": NaN'), "send_s must be finite"),
        (GOOD_LINE.replace('"send_s": 10.0', f'"send_s": {10**400}'), "send_s must be finite"),
        ("[" * 100_000, "recursion"),
        (GOOD_LINE.replace('"client_fault": false', '"client_fault": 1'), "must be true or false"),
        (GOOD_LINE.replace('"client_fault": false', '"client_fault": true'), "is a failure"),
        (GOOD_LINE.replace('"ttft_slo_s": 0.5', '"ttft_slo_s": -1'), "ttft_slo_s must be > 0"),
        (GOOD_LINE.replace('"slo_class": "chat"', '"slo_class": 3'), "slo_class must be a text"),
    ],
)
def test_a_bad_line_names_file_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{GOOD_LINE}\n\n{line}\n")
    with pytest.raises(RecordError) as caught:
        read_records(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert reason in str(caught.value)


def test_a_stopped_run_leaves_valid_lines_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"

    def stopped_run() -> None:
        with RecordWriter(path) as writer:
            writer.write(record())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_run()
    assert not path.exists()
    assert read_records(tmp_path / "r.partial.jsonl") == [record()]
    write_records(path, [record(), record(index=1)])  # a complete run replaces the partial one
    assert [name.name for name in tmp_path.iterdir()] == ["r.jsonl"]
