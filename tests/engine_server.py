"""The real server of the engine tests: `scorpio serve tiny`, one for the whole session.

A test directory gets the fixture by `from tests.engine_server import engine_server` in its
conftest.py; all of them share one process. Mark tests that use it:

    pytestmark = ENGINE_MARKS
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from predictors.latency.artifact import ProfileFile, this_machine, write_profile
from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.live.host.process import ServerFailedError, ServerProcess, free_port
from scorpio.versions import installed_vllm, minor

ADMIN_TOKEN = "for-tests-only"
START_S = 600.0  # 60 s on two free cores, several minutes on busy ones
MODEL = "tiny"
MAX_MODEL_LEN = 512
# The tiny model's steps are about as short as planning one: no breaker may open for that.
UNTIMED = ("--additional-config.scorpio.most_overhead", "0")
KV_BLOCKS = 14
_OLD = minor((installed_vllm() or ("", ""))[1]) == "0.32"
NO_PREFIX_CACHING = "--no-enable-prefix-caching" if _OLD else "--disable-prefix-caching"
# xdist_group: with `-n`, all users of the server go to one worker and share it.
ENGINE_MARKS = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("engine_server"),
]
# For an engine of the module's own in which nothing is timed: two such modules run at once.
OWN_ENGINE_MARKS = [pytest.mark.engine, pytest.mark.own_engine, pytest.mark.timeout(900)]
SLO_CONFIG = """
[classes.interactive]
ttft_ms = 60000
tpot_ms = 60000

[classes.hopeless]
ttft_ms = 1

[classes.batch]
on_miss = "wait"
"""
# Not this machine's: a first token takes at least 30 ms, so a TTFT SLO of 1 ms is never attainable
# and one of a minute always is, whatever else the machine is doing.
STEP = StepModel(0.02, 1e-4, 1e-4, 64.0, 0.0, 0.0, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "tests")


@dataclass
class EngineServer:
    """A running server. `url` has no trailing slash."""

    url: str
    run_dir: Path
    process: ServerProcess
    admin_token: str = ADMIN_TOKEN
    model: str = MODEL
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: (status, headers in lower case, body)."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else raw,
            headers={**self.headers, **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, _lower(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), error.read()

    def status(self) -> dict[str, Any]:
        """GET /scorpio/status."""
        return dict(json.loads(self.call("GET", "/scorpio/status")[2]))

    def switch(self, policy: str, record_steps: bool = False) -> None:
        """Switch the policy and let a request make the engine see it."""
        body = {"policy": policy, "record_steps": record_steps}
        bearer = {"authorization": f"Bearer {self.admin_token}"}
        code, _, raw = self.call("PUT", "/scorpio/policy", body, bearer)
        assert code == 200, raw
        seq = json.loads(raw)["control_seq"]

        def active() -> bool:
            self.call(
                "POST", "/v1/completions", {"model": self.model, "prompt": "a a", "max_tokens": 2}
            )
            return int(self.status().get("control_seq", 0)) >= seq

        self.wait_for(active, f"policy {policy}")

    def turn_on(self) -> None:
        """Undo what turned the policy off by hand."""
        bearer = {"authorization": f"Bearer {self.admin_token}"}
        assert self.call("DELETE", "/scorpio/off", headers=bearer)[0] == 200

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Poll until true. The time-out only ends a test that has failed."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            self.process.check_alive()
            if time.monotonic() > end_s:
                pytest.fail(f"waited {timeout_s:.0f} s for {what}; status: {self.status()}")
            time.sleep(0.1)


@contextlib.contextmanager
def own_slo_file(server: EngineServer) -> Iterator[Path]:
    """The server's own SLO file, which is put back, and read, in the end."""
    file = Path(server.status()["slo_config"]["file"])
    before = file.read_text()
    try:
        yield file
    finally:
        file.write_text(before)
        bearer = {"authorization": f"Bearer {server.admin_token}"}
        assert server.call("PUT", "/scorpio/config", b"", bearer)[0] == 200


@contextlib.contextmanager
def running(
    directory: Path, command: Sequence[str], env: Mapping[str, str] | None = None
) -> Iterator[EngineServer]:
    """Start `command` (host and port are appended), wait for its health, stop it at the end."""
    port = free_port()
    run_dir = directory / "run"
    url = f"http://127.0.0.1:{port}"
    address = ["--host", "127.0.0.1", "--port", str(port)]
    process = ServerProcess(
        [*command, *address],
        url,
        directory / "server.log",
        {"SCORPIO_ADMIN_TOKEN": ADMIN_TOKEN, "VLLM_LOGGING_LEVEL": "INFO", **(env or {})},
    )
    with process:
        try:
            process.wait_healthy(START_S)
        except ServerFailedError as error:
            pytest.fail(str(error))
        yield EngineServer(url, run_dir, process)


def write_inputs(directory: Path) -> tuple[Path, Path]:
    """(SLO file, latency file) of the test server."""
    slo, latency = directory / "slo.toml", directory / "latency.json"
    slo.write_text(SLO_CONFIG)
    write_profile(latency, ProfileFile(PROFILE, MODEL, this_machine(), "0.32.0", "tests"))
    return slo, latency


@contextlib.contextmanager
def serving(
    directory: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[EngineServer]:
    """`python -m scorpio serve tiny` with classes, a fixed latency profile and these options."""
    slo, latency = write_inputs(directory)
    command = [
        *(sys.executable, "-m", "scorpio", "serve", MODEL),
        *("--slo-config", str(slo), "--latency", str(latency)),
        *("--run-dir", str(directory / "run"), "--max-model-len", str(MAX_MODEL_LEN)),
        *UNTIMED,
        *options,
    ]
    with running(directory, command, env) as server:
        yield server


@contextlib.contextmanager
def serve_tiny(
    directory: Path, policy: str = "scorpio-paper", *more: str
) -> Iterator[EngineServer]:
    """With a small KV pool: half of what eight sequences may need, and chunks shorter than a
    prompt. Preemption and chunked prefill are everyday things here."""
    small = [
        *("--max-num-seqs", "8", "--num-gpu-blocks-override", str(KV_BLOCKS)),
        *("--max-num-batched-tokens", "128", "--distributed-executor-backend", "uni"),
    ]
    with serving(directory, "--policy", policy, *small, "--enable-scale-out", *more) as server:
        yield server


class _Shared:
    """One server for all fixtures of the session: each directory that imports the fixture below
    has a fixture of its own, as pytest sees it."""

    def __init__(self) -> None:
        self._users = 0
        self._stack: contextlib.ExitStack | None = None
        self._server: EngineServer | None = None

    def enter(self, directory: Path) -> EngineServer:
        self._users += 1
        if self._server is None:
            self._stack = contextlib.ExitStack()
            self._server = self._stack.enter_context(serve_tiny(directory))
        return self._server

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0 and self._stack is not None:
            self._server = None
            self._stack.close()


_SHARED = _Shared()


@pytest.fixture(scope="session")
def engine_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """The shared real server."""
    try:
        yield _SHARED.enter(tmp_path_factory.mktemp("engine_server"))
    finally:
        _SHARED.leave()


def _lower(headers: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}
