"""When the client, the server or the machine fails: what does a replay say, and what is left?"""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.workloads.golden_runs import measure, ready, request
from tests.workloads.golden_server import GoldenServer, Script
from tests.workloads.virtual_time import run_in_virtual_time
from workloads.load import LoadKey
from workloads.replay.client import http_verdict, is_own_fault, replay
from workloads.results.metrics import summarise
from workloads.results.record_files import RecordWriter, read_records
from workloads.results.records import Outcome, RequestRecord
from workloads.results.run_summary import RunKey


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


def test_http_verdict_of_a_body_that_is_no_json() -> None:
    verdict = http_verdict(502, {}, b"<html>Bad Gateway</html>")
    assert verdict.error == "HTTP 502: <html>Bad Gateway</html>"
