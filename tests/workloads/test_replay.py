"""The client against a server whose every token time is known.

Virtual time over a UNIX socket: exact numbers, no waiting, nothing that a busy machine can change.
One test at the end uses TCP and the real clock, for the plumbing alone.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.workloads.golden_server import Counting, Ending, GoldenServer, Script
from tests.workloads.virtual_time import run_in_virtual_time
from workloads.load import LoadKey
from workloads.replay.client import LEAD_S, http_verdict, is_own_fault, replay, server_root
from workloads.replay.request_body import PreparedRequest, RequestStyle, prepare
from workloads.replay.run import ServerUnreachable, replay_to_file, served_model
from workloads.request import WorkloadRequest
from workloads.results.metrics import summarise
from workloads.results.record_files import RecordWriter, read_records
from workloads.results.records import Outcome, RequestRecord
from workloads.results.run_summary import RunKey

STYLE = RequestStyle(model="golden")


def request(index: int, send_s: float = 0.0, **changes: Any) -> WorkloadRequest:
    values: dict[str, Any] = {
        "index": index,
        "send_s": send_s,
        "prompt_tokens": 3,
        "output_tokens": 2,
        "hash_ids": (),
        "slo_class": "chat",
        "ttft_slo_s": 0.5,
        "tpot_slo_s": 0.05,
    }
    return WorkloadRequest(**(values | changes))


def ready(
    requests: Sequence[WorkloadRequest], style: RequestStyle = STYLE
) -> list[PreparedRequest]:
    prompt = "a b c" if style.mode == "chat" else [1, 2, 3]
    return [prepare(item, prompt, style) for item in requests]


def measure(
    server: GoldenServer,
    prepared: Sequence[PreparedRequest],
    tmp_path: Path,
    timeout_s: float = 60.0,
) -> list[RequestRecord]:
    """Replay against the golden server in virtual time."""
    socket = tmp_path / "golden.sock"

    async def main() -> list[RequestRecord]:
        async with server.on_unix_socket(socket) as url:
            connector = aiohttp.UnixConnector(path=str(socket), limit=0)
            return await replay(url, prepared, timeout_s=timeout_s, connector=connector)

    return run_in_virtual_time(main)


def one(
    script: Script, tmp_path: Path, style: RequestStyle = STYLE, **changes: Any
) -> RequestRecord:
    """The record of a single request answered by `script`."""
    server = GoldenServer({0: script})
    return measure(server, ready([request(0, **changes)], style), tmp_path)[0]


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


def test_a_request_without_an_end_times_out_and_keeps_its_tokens(tmp_path: Path) -> None:
    server = GoldenServer({0: Script(ending="hang")})
    record = measure(server, ready([request(0)]), tmp_path, timeout_s=5.0)[0]
    assert record.outcome is Outcome.TIMED_OUT
    assert record.ended_s == pytest.approx(5.0)
    assert record.token_times_s == pytest.approx((0.1, 0.2))
    assert not record.good


def test_no_server_is_a_failure_of_every_request_not_a_crash(tmp_path: Path) -> None:
    async def main() -> list[RequestRecord]:
        connector = aiohttp.UnixConnector(path=str(tmp_path / "none.sock"))
        return await replay("http://x", ready([request(0), request(1)]), connector=connector)

    records = run_in_virtual_time(main)
    assert [record.outcome for record in records] == [Outcome.FAILED, Outcome.FAILED]
    assert "ClientConnectorError" in (records[0].error or "")


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


def test_what_is_sent(tmp_path: Path) -> None:
    server = GoldenServer()
    prepared = ready([request(0, tenant="acme", e2e_slo_s=9.0), request(1, ttft_slo_s=math.inf)])
    measure(server, prepared, tmp_path)
    assert server.bodies[0] == {
        "model": "golden",
        "prompt": [1, 2, 3],
        "max_tokens": 2,
        "min_tokens": 2,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert server.headers[0]["x-slo-ttft-ms"] == "500.0"
    assert server.headers[0]["x-slo-tpot-ms"] == "50.0"
    assert server.headers[0]["x-slo-e2el-ms"] == "9000.0"
    assert server.headers[0]["x-llm-d-inference-fairness-id"] == "acme"
    assert "x-slo-ttft-ms" not in server.headers[1]
    assert "x-llm-d-inference-objective" not in server.headers[1]


def test_slos_in_the_body_and_a_plain_openai_server() -> None:
    in_body = RequestStyle(
        model="m", slo_carrier="xargs", send_class=True, headers={"Authorization": "Bearer k"}
    )
    prepared = prepare(request(0, tenant="acme"), "hello", in_body)
    assert b'"vllm_xargs": {"slo_ttft_ms": 500.0, "slo_tpot_ms": 50.0, "slo_class": "chat"' in (
        prepared.body
    )
    assert not any(name.startswith("x-slo") for name in prepared.headers)
    assert prepared.headers["Authorization"] == "Bearer k"
    plain = prepare(
        request(0), "hi", RequestStyle(model="m", slo_carrier="none", vllm_fields=False)
    )
    assert b"ignore_eos" not in plain.body
    assert b"continuous" not in plain.body
    assert b"slo" not in plain.body


def test_chat_needs_text() -> None:
    with pytest.raises(ValueError, match="prompt as text"):
        prepare(request(0), [1, 2], RequestStyle(model="m", mode="chat"))


def test_a_body_of_several_megabytes_arrives(tmp_path: Path) -> None:
    server = GoldenServer()
    prepared = prepare(request(0), [12345] * 400_000, STYLE)
    record = measure(server, [prepared], tmp_path)[0]
    assert record.outcome is Outcome.FINISHED
    assert len(server.bodies[0]["prompt"]) == 400_000


def test_a_stopped_replay_leaves_what_had_ended(tmp_path: Path) -> None:
    server = GoldenServer({1: Script(ending="hang")})
    socket, path = tmp_path / "golden.sock", tmp_path / "records.jsonl"

    async def main() -> None:
        async with server.on_unix_socket(socket) as url:
            connector = aiohttp.UnixConnector(path=str(socket))
            with RecordWriter(path) as writer:
                async with asyncio.timeout(10.0):
                    await replay(
                        url,
                        ready([request(0), request(1)]),
                        on_record=writer.write,
                        connector=connector,
                    )

    with pytest.raises(TimeoutError):
        run_in_virtual_time(main)
    assert not path.exists()
    assert [r.index for r in read_records(tmp_path / "records.partial.jsonl")] == [0]


class Refusing(aiohttp.UnixConnector):
    """No connection comes about: what the machine says instead."""

    def __init__(self, error: OSError) -> None:
        super().__init__("/none")
        self._error = error

    async def connect(self, *_arguments: Any, **_options: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (OSError(errno.EMFILE, "Too many open files"), True),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), False),
    ],
)
def test_a_fault_of_the_client_makes_the_run_void(error: OSError, own: bool) -> None:
    async def main() -> list[RequestRecord]:
        return await replay("http://x", ready([request(0)]), connector=Refusing(error))

    records = run_in_virtual_time(main)
    assert (records[0].outcome, records[0].client_fault) == (Outcome.FAILED, own)
    key = RunKey(policy="p", engine="live", gpu="g", load=LoadKey("t", None, "m", 1.0, 0))
    summary = summarise(key, records)
    assert summary.void is own
    assert list(summary.failed_by_error.values()) == [1]
    if own:
        assert "1 of 1 requests failed at the client itself: " in (summary.void_reason or "")
        assert str(error) in (summary.void_reason or "")


def test_a_name_that_is_not_resolved_is_the_clients_fault() -> None:
    target: Any = type("Key", (), {"host": "nowhere", "port": 1, "ssl": True, "is_ssl": False})()
    error = aiohttp.ClientConnectorDNSError(target, socket.gaierror(-2, "unknown"))
    assert is_own_fault(error)


def test_a_header_that_cannot_be_sent_ends_its_own_request_alone(tmp_path: Path) -> None:
    prepared = ready([request(0, tenant="a\nb"), request(1)])
    records = measure(GoldenServer(), prepared, tmp_path)
    assert [record.outcome for record in records] == [Outcome.FAILED, Outcome.FINISHED]
    assert records[0].client_fault


def test_runs_side_by_side_never_share_a_request_id() -> None:
    styles = [RequestStyle(model="m"), RequestStyle(model="m")]
    ids = {item.headers["x-request-id"] for s in styles for item in ready([request(0)], s)}
    assert len(ids) == 2
    in_one_run = ready([request(0), request(1)])
    assert len({item.headers["x-request-id"] for item in in_one_run}) == 2


def test_nothing_to_send(tmp_path: Path) -> None:
    assert measure(GoldenServer(), [], tmp_path) == []


def test_http_verdict_of_a_body_that_is_no_json() -> None:
    verdict = http_verdict(502, {}, b"<html>Bad Gateway</html>")
    assert verdict.error == "HTTP 502: <html>Bad Gateway</html>"


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
