"""What do clients see when the engine stops, dies or is told to end? On the real server.

The numbers in docs/failures.md are the limits below. One server is stopped,
filled and drained, one loses its engine, two are told to end while they start.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scorpio.live.host.process import free_port
from scorpio.proctree import ProcessId, is_alive, tree_of, wait_gone
from tests.engine_server import ADMIN_TOKEN, EngineServer, running, write_inputs

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
STALL_S = 4.0
BODY: dict[str, Any] = {"model": "tiny", "prompt": "hello", "ignore_eos": True}
LONG_TOKENS = 400
BEARER = {"authorization": f"Bearer {ADMIN_TOKEN}"}


def serve(directory: Path, *more: str) -> Any:
    slo, latency = write_inputs(directory)
    ours = json.dumps({"scorpio": {"stall_s": STALL_S, "most_overhead": 0}})
    command = [
        *(sys.executable, "-m", "scorpio", "serve", "tiny", "--slo-config", str(slo)),
        *("--latency", str(latency), "--run-dir", str(directory / "run")),
        *("--max-model-len", "512", "--max-num-seqs", "8", "--additional-config", ours, *more),
        *("--distributed-executor-backend", "uni"),
    ]
    return running(directory, command)


def engine_of(server: EngineServer) -> int:
    """The process that holds the model: vLLM names it."""
    for process in tree_of(server.process.pid):
        if any(mark in _command(process) for mark in (b"EngineCore", b"spawn_main")):
            return process.pid
    pytest.fail("no engine process")


class Asked:
    """A request on a thread of its own; what came back, and when its first token did."""

    def __init__(self, server: EngineServer, body: dict[str, Any], **headers: str) -> None:
        self.status, self.body = 0, b""
        self.headers: dict[str, str] = {}
        self.sent, self.begun = threading.Event(), threading.Event()
        self._server, self._raw = server, json.dumps(BODY | body).encode()
        self._given = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        host = self._server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=300)
        try:
            connection.request("POST", "/v1/completions", self._raw, self._given)
            self.sent.set()
            answer = connection.getresponse()
            self.status = answer.status
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            while part := answer.read1():
                self.body += part
                self.begun.set()
        except (OSError, http.client.HTTPException) as error:
            self.body += f"<{type(error).__name__}>".encode()
        finally:
            self.begun.set()
            connection.close()

    def over(self, limit_s: float) -> bool:
        """True when it has ended within the limit that the docs state."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()


def health(server: EngineServer) -> tuple[int, str]:
    code, _, raw = server.call("GET", "/scorpio/health")
    return code, json.loads(raw)["status"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    with serve(tmp_path_factory.mktemp("kill_and_stop")) as made:
        yield made


@contextmanager
def stopped(server: EngineServer) -> Iterator[None]:
    pid = engine_of(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_engine(server: EngineServer) -> None:
    """With a deadline: 503 from the API process. Without: they wait. Health says so."""
    assert health(server) == (200, "ok")
    stream = Asked(server, {"max_tokens": LONG_TOKENS, "stream": True})
    assert stream.begun.wait(120)
    with stopped(server):
        late = [
            Asked(server, {"max_tokens": 4, "stream": stream}, x_slo_ttft_ms="1000")
            for stream in (True, False)
        ]
        patient = Asked(server, {"max_tokens": 4})
        for asked in late:
            assert asked.over(60.0)
            assert asked.status == 503
            assert asked.headers["x-scorpio-reject-reason"] == "engine_frozen"
            assert int(asked.headers["retry-after"]) > 0
        server.wait_for(lambda: health(server) == (503, "stalled"), "the stall to be seen")
        assert server.call("GET", "/health")[0] == 200  # vLLM's own does not see it
        assert not patient.over(0.0)
    for asked in (stream, patient):
        assert asked.over(240.0)
        assert asked.status == 200
    assert stream.body.endswith(b"data: [DONE]\n\n")
    server.wait_for(lambda: health(server) == (200, "ok"), "health again")
    assert Asked(server, {"max_tokens": 4}, x_slo_ttft_ms="60000").over(120.0)


def test_a_full_disk(server: EngineServer) -> None:
    """No process may write a byte: served as before; what needs the disk says so."""
    pids = [process.pid for process in tree_of(server.process.pid)]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        for headers in ({}, {"x_slo_ttft_ms": "60000"}):
            asked = Asked(server, {"max_tokens": 8}, **headers)
            assert asked.over(120.0)
            assert asked.status == 200
        refused = Asked(server, {"max_tokens": 8}, x_slo_ttft_ms="1")
        assert refused.over(60.0)
        assert refused.status == 429
        code, _, raw = server.call("PUT", "/scorpio/policy", {"policy": "fcfs"}, BEARER)
        assert code == 409, raw
        assert "cannot be written" in json.loads(raw)["error"]["message"]
        assert server.call("GET", "/metrics")[0] == 200
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    steps = int(server.status()["steps"])

    def recovered() -> bool:
        Asked(server, {"max_tokens": 2}).over(60.0)
        return int(server.status()["steps"]) > steps

    server.wait_for(recovered, "the status to be written again")
    assert not server.status().get("breaker_open")


def test_sigterm_drains(server: EngineServer) -> None:
    """The last test of this server: streams end whole, new requests are told, exit code 0."""
    streams = [Asked(server, {"max_tokens": LONG_TOKENS, "stream": True}) for _ in range(4)]
    unary = Asked(server, {"max_tokens": LONG_TOKENS})
    assert all(stream.begun.wait(120) for stream in streams)
    tree = tree_of(server.process.pid)
    os.kill(server.process.pid, signal.SIGTERM)
    told = None
    while told is None or told.status == 200:  # until the signal has arrived
        told = Asked(server, {"max_tokens": 1})
        assert told.over(60.0)
    if told.status:  # 0: the load was gone before we asked
        assert told.status == 503
        assert told.headers["x-scorpio-reject-reason"] == "draining"
        assert int(told.headers["retry-after"]) > 0
    for asked in (*streams, unary):
        assert asked.over(60.0)
        assert asked.status == 200
    for stream in streams:
        assert stream.body.count(b'"text"') >= 2
        assert stream.body.endswith(b"data: [DONE]\n\n")
    assert json.loads(unary.body)["usage"]["completion_tokens"] == LONG_TOKENS
    assert _exit_code(server.process.pid) == 0
    assert not wait_gone(tree, 10.0)


def test_a_killed_engine(tmp_path: Path) -> None:
    """Each client is told within seconds, and the server ends: the supervisor starts another."""
    with serve(tmp_path) as server:
        engine, stream = engine_of(server), a_stream_cut_short(server)
        unary = Asked(server, {"max_tokens": LONG_TOKENS})
        assert unary.sent.wait(60)
        for _ in range(2):  # two more round trips: the server has read what came before them
            assert server.call("GET", "/scorpio/health")[0] in (200, 503)
        tree = tree_of(server.process.pid)
        os.kill(engine, signal.SIGKILL)
        assert unary.over(60.0)
        assert unary.status == 500
        assert json.loads(unary.body)["error"]["message"]
        assert stream.over(60.0)
        assert b'data: {"error"' in stream.body
        assert _exit_code(server.process.pid) == 1
        assert not wait_gone(tree, 10.0)


def a_stream_cut_short(server: EngineServer) -> Asked:
    """A stream that has begun and cannot end: its engine is stopped, and stays so.

    On a busy machine a client may see the first token when the last one is made:
    the engine is stopped first, then it is asked whether anything was left.
    """
    engine = engine_of(server)
    for _ in range(10):
        stream = Asked(server, {"max_tokens": LONG_TOKENS, "stream": True})
        assert stream.begun.wait(120)
        os.kill(engine, signal.SIGSTOP)
        if not stream.over(2.0):
            return stream
        os.kill(engine, signal.SIGCONT)
    pytest.fail("ten streams were over before the engine could be stopped")


def _exit_code(pid: int, limit_s: float = 60.0) -> int | None:
    """Looked at without reaping: ServerProcess does that."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is not None:
            return int(seen.si_status) if seen.si_code == os.CLD_EXITED else -int(seen.si_status)
        time.sleep(0.1)
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT before vLLM is there, SIGTERM when the engine process is: both leave nothing."""
    command = [sys.executable, "-m", "scorpio", "serve", "tiny", "--port", str(free_port())]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
    seen: set[ProcessId] = set()
    while process.poll() is None and not _far_enough(seen, tmp_path, number):
        seen |= tree_of(process.pid)
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert not wait_gone(seen | tree_of(process.pid), 10.0)
    assert list(tmp_path.glob("scorpio-*")) == []


def _far_enough(seen: set[ProcessId], tmp_path: Path, number: signal.Signals) -> bool:
    if number is signal.SIGINT:
        return bool(list(tmp_path.glob("scorpio-*")))  # its run directory
    return any(is_alive(child) and b"spawn_main" in _command(child) for child in seen)


def _command(process: ProcessId) -> bytes:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return b""
