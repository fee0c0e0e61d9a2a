"""The client against a server whose every token time is known.

Virtual time over a UNIX socket: exact numbers, no waiting, nothing that a busy machine can change.
One test at the end uses TCP and the real clock, for the plumbing alone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.golden_runs import measure, one, ready, request
from tests.workloads.golden_server import Counting, Ending, GoldenServer, Script
from workloads.load import LoadKey
from workloads.replay.client import LEAD_S, server_root
from workloads.replay.request_body import RequestStyle
from workloads.replay.run import ServerUnreachable, replay_to_file, served_model
from workloads.results.metrics import summarise
from workloads.results.record_files import read_records
from workloads.results.records import Outcome
from workloads.results.run_summary import RunKey


def test_exact_times_of_every_token(tmp_path: Path) -> None:
    script = Script(chunks=((0.3, 1), (0.04, 1), (0.06, 1), (0.05, 1)), header_delay_s=0.2)
    record = one(script, tmp_path)
    assert record.outcome is Outcome.FINISHED
    assert record.token_times_s == pytest.approx((0.5, 0.54, 0.6, 0.65))
    assert record.ttft_s == pytest.approx(0.5)  # headers alone are not a token
    assert record.tpot_s == pytest.approx(0.05)  # nor is the end of the stream, 0.5 s later
    assert record.ended_s == pytest.approx(1.15)
    assert (record.output_tokens, record.prompt_tokens, record.http_status) == (4, 7, 200)
    assert record.good


@pytest.mark.parametrize("counting", ["usage", "token_ids", "logprobs"])
@pytest.mark.parametrize("mode", ["completions", "chat"])
def test_several_tokens_in_one_chunk_are_several_tokens(
    tmp_path: Path, counting: Counting, mode: Any
) -> None:
    script = Script(chunks=((0.2, 3), (0.1, 2), (0.1, 1)), counting=counting)
    record = one(script, tmp_path, RequestStyle(model="golden", mode=mode))
    assert record.output_tokens == 6
    assert record.token_times_s == pytest.approx((0.2, 0.2, 0.2, 0.3, 0.3, 0.4))
    assert record.tpot_s == pytest.approx(0.2 / 5)


def test_a_server_that_only_sends_text_is_counted_by_its_final_usage(tmp_path: Path) -> None:
    record = one(Script(chunks=((0.2, 3), (0.2, 3)), counting="text"), tmp_path)
    assert record.output_tokens == 6
    assert record.token_times_s is None  # which token came when is not known, and not invented
    assert record.ttft_s == pytest.approx(0.2)
    assert record.tpot_s == pytest.approx(0.2 / 5)


@pytest.mark.parametrize("split", [1, 7, 4096])
@pytest.mark.parametrize("crlf", [False, True])
def test_network_cuts_do_not_matter(tmp_path: Path, split: int, crlf: bool) -> None:
    record = one(Script(split=split, crlf=crlf), tmp_path)
    assert record.token_times_s == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("error_event", "engine died"),
        ("busy_event", "engine is busy"),
        ("disconnect", "ClientPayloadError"),
        ("silent_end", "without a finish reason"),
        ("abort", "finish reason 'abort'"),
        ("reject_in_stream", "scorpio:ttft_infeasible"),  # after a token it is no rejection
    ],
)
def test_a_broken_stream_is_a_failure_whatever_it_delivered(
    tmp_path: Path, ending: Ending, error: str
) -> None:
    record = one(Script(ending=ending), tmp_path)
    assert record.outcome is Outcome.FAILED
    assert error in (record.error or "")
    assert record.output_tokens == 2
    assert not record.good


def test_abort_before_the_first_token_with_our_stop_reason_is_a_rejection(tmp_path: Path) -> None:
    record = one(Script(chunks=(), ending="reject_in_stream"), tmp_path)
    assert record.outcome is Outcome.REJECTED
    assert record.reject_reason == "ttft_infeasible"


def test_busy_before_the_first_token_is_a_refusal_even_after_http_200(tmp_path: Path) -> None:
    record = one(Script(chunks=(), ending="busy_event"), tmp_path)
    assert (record.outcome, record.reject_reason) == (Outcome.REJECTED, "http_503")
    assert record.http_status == 200


def test_an_answer_without_a_token_is_no_success(tmp_path: Path) -> None:
    record = one(Script(chunks=()), tmp_path)
    assert record.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("status", "header", "outcome", "reason"),
    [
        (429, ("x-scorpio-reject-reason", "kv_infeasible"), Outcome.REJECTED, "kv_infeasible"),
        (503, ("x-scorpio-reject-reason", "queue_full"), Outcome.REJECTED, "queue_full"),
        (
            429,
            ("x-llm-d-request-dropped-reason", "rejected-saturated"),
            Outcome.REJECTED,
            "rejected-saturated",
        ),
        (429, None, Outcome.REJECTED, "http_429"),
        (503, None, Outcome.REJECTED, "http_503"),
        (500, None, Outcome.FAILED, None),
        (400, ("x-scorpio-reject-reason", "queue_full"), Outcome.FAILED, None),
    ],
)
def test_http_refusals(
    tmp_path: Path,
    status: int,
    header: tuple[str, str] | None,
    outcome: Outcome,
    reason: str | None,
) -> None:
    record = one(Script(header_delay_s=0.004, status=status, reject_header=header), tmp_path)
    assert (record.outcome, record.reject_reason) == (outcome, reason)
    assert record.http_status == status
    assert record.ended_s == pytest.approx(0.004)
    if outcome is Outcome.FAILED:
        assert record.error == f"HTTP {status}: predicted TTFT 2.4 s > SLO 0.5 s"


def test_open_loop_a_slow_server_never_delays_a_send(tmp_path: Path) -> None:
    """300 requests 10 ms apart, each answered after 60 s: all are in flight at once."""
    server = GoldenServer(default=Script(chunks=((60.0, 1), (0.05, 1))))
    requests = [request(i, send_s=5.0 + 0.01 * i) for i in range(300)]  # starts at 5 s of its trace
    records = measure(server, ready(requests), tmp_path, timeout_s=100.0)
    assert [record.index for record in records] == list(range(300))
    zero_s = server.received_s[0] - 5.0
    for record in records:
        assert record.lateness_s == pytest.approx(0.0, abs=1e-9)
        assert server.received_s[record.index] - zero_s == pytest.approx(record.send_s)
        assert record.ttft_s == pytest.approx(60.0)
    assert server.received_s[0] == pytest.approx(LEAD_S)


def test_client_and_server_agree_on_every_time_in_a_mixed_run(tmp_path: Path) -> None:
    scripts = {
        i: Script(
            chunks=tuple((0.01 * (1 + (i * 7 + k) % 9), 1 + (i + k) % 3) for k in range(5)),
            split=None if i % 2 else 11,
            ending="error_event" if i % 10 == 9 else "stop",
            status=429 if i % 10 == 4 else 200,
        )
        for i in range(60)
    }
    server = GoldenServer(scripts)
    requests = [request(i, send_s=(i // 3) * 0.03, ttft_slo_s=0.055) for i in range(60)]
    records = measure(server, ready(requests), tmp_path)
    zero_s = server.received_s[0]
    for record in records:
        written = server.writes_s.get(record.index, [])
        assert list(record.token_times_s or ()) == pytest.approx([t - zero_s for t in written])
    key = RunKey(policy="p", engine="live", gpu="g", load=LoadKey("t", None, "m", 1.0, 0))
    summary = summarise(key, records)
    # the truth, from the scripts alone
    good = sum(
        script.ending == "stop"
        and script.status == 200
        and script.chunks[0][0] <= 0.055
        and sum(delay for delay, _ in script.chunks[1:]) / (script.tokens - 1) <= 0.05 + 1e-9
        for script in scripts.values()
    )
    assert 0 < good < 48
    assert (summary.good, summary.rejected, summary.failed) == (good, 6, 6)
    assert summary.window_s == pytest.approx(19 * 0.03)


def test_runs_side_by_side_never_share_a_request_id() -> None:
    styles = [RequestStyle(model="m"), RequestStyle(model="m")]
    ids = {item.headers["x-request-id"] for s in styles for item in ready([request(0)], s)}
    assert len(ids) == 2
    in_one_run = ready([request(0), request(1)])
    assert len({item.headers["x-request-id"] for item in in_one_run}) == 2


def test_nothing_to_send(tmp_path: Path) -> None:
    assert measure(GoldenServer(), [], tmp_path) == []


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_server_root(url: str) -> None:
    assert server_root(url) == "http://h:1"


async def test_over_tcp_with_a_real_clock(tmp_path: Path) -> None:
    """Plumbing only: order and counts; no duration is asserted."""
    server = GoldenServer(default=Script(chunks=((0.01, 1), (0.01, 2))))
    async with server.on_port() as url:
        assert await served_model(url) == "golden"
        prepared = ready([request(i, send_s=0.005 * i) for i in range(20)])
        records = await asyncio.to_thread(
            replay_to_file, f"{url}/v1", prepared, tmp_path / "records.jsonl"
        )
    assert [record.index for record in records] == list(range(20))
    assert {record.outcome for record in records} == {Outcome.FINISHED}
    assert {record.output_tokens for record in records} == {3}
    saved = read_records(tmp_path / "records.jsonl")
    assert {record.index for record in saved} == set(range(20))


async def test_unreachable_server_is_one_clear_line() -> None:
    with pytest.raises(ServerUnreachable, match=r"no server at http://127\.0\.0\.1:9/v1/models"):
        await served_model("http://127.0.0.1:9")
