"""Does a fleet of real engines answer as one server does, and lose nothing when a part of it goes?

One fleet for all tests, in their order: each start of an engine takes a minute on two cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from scorpio.fleet.registry import BEAT_S
from tests.engine_server import MAX_MODEL_LEN, MODEL, EngineServer, running, write_inputs

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500), pytest.mark.xdist_group("fleet")]
REPLICAS = 2
STOP_S = 120.0
DEAD_S, HUNG_S, TOLD_S = 3.0, 15.0, 5.0  # out of rotation; a stream's end
SLACK_S = 10.0  # of a machine that is busy: 2 engines and Ray on two cores
VLLM_ARGS = (
    *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "8"),
    *("--max-num-batched-tokens", "128", "--distributed-executor-backend", "uni"),
    *("--disable-access-log-for-endpoints", "/scorpio/load,/scorpio/health,/metrics"),
)
SCALE = """
import sys, json
from scorpio.fleet import build_app
from scorpio.fleet.on_ray import ray, serve
ray().init("auto", namespace="scorpio", log_to_driver=False, logging_level="ERROR")
serve().run(build_app(json.loads(sys.argv[1])), name="scorpio", route_prefix="/")
"""


@dataclass
class LiveFleet:
    """server: its address and process. args: of build_app, as the command made them."""

    server: EngineServer
    args: dict[str, Any]

    @property
    def url(self) -> str:
        return self.server.url

    def replicas(self) -> dict[str, Any]:
        return dict(self.server.status()["replicas"])

    def able(self) -> list[str]:
        """Addresses of those in rotation."""
        return [r["url"] for r in self.replicas().values() if r["state"] == "ok"]

    def scale(self, replicas: int) -> subprocess.Popen[bytes]:
        """Ask Serve for another number of replicas."""
        wanted = json.dumps(self.args | {"replicas": replicas})
        return subprocess.Popen([sys.executable, "-c", SCALE, wanted])

    def wait_for(self, replicas: int) -> None:
        self.server.wait_for(
            lambda: len(self.able()) == replicas, f"{replicas} replicas", timeout_s=600.0
        )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    directory = tmp_path_factory.mktemp("fleet")
    slo, latency = write_inputs(directory)
    own = ["--policy", "scorpio-paper", "--latency", str(latency)]
    command = [
        *(sys.executable, "-m", "scorpio", "serve", MODEL, "--replicas", str(REPLICAS)),
        *(*own, "--slo-config", str(slo), *VLLM_ARGS),
    ]
    with running(directory, command, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}) as server:
        args = {
            "model": MODEL,
            "replicas": REPLICAS,
            "serve_args": [*own, "--profile-mismatch", "refuse", *VLLM_ARGS],
            "slo_config": str(slo),
            "env": {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // REPLICAS, 1))},
        }
        made = LiveFleet(server, args)
        made.wait_for(REPLICAS)
        yield made
        server.process.stop(STOP_S)


# -- it answers as one server does -----------------------------------------------------------------

TEXT = {"prompt": "hello", "max_tokens": 4, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
HOPELESS = {"x-slo-ttft-ms": "1"}
CASES: dict[str, tuple[str, str, object, Mapping[str, str]]] = {
    "completion": ("POST", "/v1/completions", TEXT, {}),
    "in a class": ("POST", "/v1/completions", TEXT, {"x-llm-d-inference-objective": "batch"}),
    "stream": ("POST", "/v1/completions", TEXT | {"stream": True}, {}),
    "chat": ("POST", "/v1/chat/completions", CHAT, {}),
    "chat stream": ("POST", "/v1/chat/completions", CHAT | {"stream": True}, {}),
    "messages": ("POST", "/v1/messages", CHAT, {}),
    "responses": ("POST", "/v1/responses", {"input": "hello", "max_output_tokens": 4}, {}),
    "refused": ("POST", "/v1/completions", TEXT, HOPELESS),
    "refused stream": ("POST", "/v1/completions", TEXT | {"stream": True}, HOPELESS),
    "refused message": ("POST", "/v1/messages", CHAT, HOPELESS),
    "refused class": (
        "POST", "/v1/completions", TEXT | {"vllm_xargs": {"slo_class": "hopeless"}}, {},
    ),
    "malformed": ("POST", "/v1/completions", TEXT, {"x-slo-ttft-ms": "soon"}),
    "no such word": ("POST", "/v1/completions", TEXT | {"vllm_xargs": {"slo_ttft": 1}}, {}),
    "no JSON": ("POST", "/v1/completions", b"{", {}),
    "no such model": ("POST", "/v1/completions", TEXT | {"model": "other"}, {}),
    "too long": ("POST", "/v1/completions", TEXT | {"max_tokens": 10**6}, {}),
    "models": ("GET", "/v1/models", None, {}),
    "tokenize": ("POST", "/tokenize", {"prompt": "hello"}, {}),
    "version": ("GET", "/version", None, {}),
    "no such route": ("GET", "/v1/nothing", None, {}),
    "wrong method": ("GET", "/v1/completions", None, {}),
    "switch without token": ("PUT", "/scorpio/policy", {"policy": "edf"}, {}),
}  # fmt: skip
# Of one process, of one request, or the fleet's own.
CHANGING = ("id", "created", "created_at", "system_fingerprint", "replicas", "item_id")
HEADERS = (
    *("content-type", "x-scorpio-policy", "x-scorpio-reject-reason", "x-should-retry", "allow"),
    *("x-llm-d-request-dropped-reason", "www-authenticate"),
)


@pytest.mark.parametrize("case", CASES)
def test_the_same_answer_as_of_one_server(fleet: LiveFleet, case: str) -> None:
    method, path, body, headers = CASES[case]
    alone = EngineServer(fleet.able()[0], Path(), fleet.server.process)
    one, all_ = (server.call(method, path, body, headers) for server in (alone, fleet.server))
    assert all_[0] == one[0]
    assert [all_[1].get(name) for name in HEADERS] == [one[1].get(name) for name in HEADERS]
    assert _constant(all_[2]) == _constant(one[2])


def _constant(raw: bytes) -> object:
    """An answer without what differs from request to request."""
    if raw.startswith(b"data: ") or raw.startswith(b"event: "):
        lines = [line for line in raw.decode().splitlines() if line.startswith("data: {")]
        return [_without(json.loads(line.removeprefix("data: "))) for line in lines]
    try:
        return _without(json.loads(raw))
    except ValueError:
        return raw


def _without(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in CHANGING}
    return [_without(entry) for entry in value] if isinstance(value, list) else value


def test_what_is_refused_is_refused_by_both(fleet: LiveFleet) -> None:
    before = _metric(fleet, "scorpio_fleet_not_answered_total")
    # The policy's 429 without a time to come back is final; one replica is asked, or two.
    status, headers, _ = fleet.server.call("POST", "/v1/completions", TEXT, HOPELESS)
    assert status == 429
    assert "x-scorpio-reject-reason" in headers
    assert _metric(fleet, "scorpio_fleet_not_answered_total") - before == 2


def test_metrics_are_of_every_replica(fleet: LiveFleet) -> None:
    for name in fleet.replicas():
        assert _metric(fleet, "vllm:num_requests_running", name) == 0
        assert _metric(fleet, "scorpio_steps_total", name) > 0


def _metric(fleet: LiveFleet, name: str, label: str = "") -> float:
    lines = fleet.server.call("GET", "/metrics")[2].decode().splitlines()
    found = [line for line in lines if line.startswith(name + "{") and label in line]
    assert found or name.startswith("scorpio_fleet")
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_a_switch_reaches_every_replica(fleet: LiveFleet) -> None:
    for policy in ("edf", "scorpio"):
        bearer = {"authorization": f"Bearer {fleet.server.admin_token}"}
        code, _, raw = fleet.server.call("PUT", "/scorpio/policy", {"policy": policy}, bearer)
        assert code == 200, raw
        assert set(json.loads(raw)["replicas"].values()) == {200}

        def switched(name: str = policy) -> bool:
            for url in fleet.able():
                EngineServer(url, Path(), fleet.server.process).call(
                    "POST", "/v1/completions", TEXT
                )
            return {r["status"]["policy"] for r in fleet.replicas().values()} == {name}

        fleet.server.wait_for(switched, f"policy {policy} everywhere")


# -- nothing is lost -------------------------------------------------------------------------------


@dataclass
class Crowd:
    """What became of a load. ended: how each request ended; odd: what must not be; gaps_s: the
    longest silence of a stream that ended with an error event."""

    ended: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)


@asynccontextmanager
async def under_load(url: str, tokens: int = 60) -> AsyncIterator[Crowd]:
    """Streams and others in turn, five a second, until the block has ended; then all that are left
    end too."""
    crowd, stop, work = Crowd(), asyncio.Event(), set()
    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=300)
    ) as session:

        async def arrive() -> None:
            number = 0
            while not stop.is_set():
                work.add(asyncio.create_task(_one(session, url, number, tokens, crowd)))
                number += 1
                await asyncio.sleep(0.2)

        arriving = asyncio.create_task(arrive())
        try:
            await asyncio.sleep(2.0)
            yield crowd
        finally:
            stop.set()
            await arriving
            await asyncio.gather(*work)


async def _one(session: ClientSession, url: str, number: int, tokens: int, crowd: Crowd) -> None:
    stream = number % 2 == 0
    body = {
        "model": MODEL, "prompt": f"{number} hello", "max_tokens": tokens, "ignore_eos": True,
        "stream": stream,
    }  # fmt: skip
    headers = {"x-slo-tpot-ms": ("500", "5000")[number // 2 % 2]}
    try:
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as answer:
            if answer.status != 200:
                crowd.odd.append(f"{answer.status} {await answer.text()}")
                return
            if not stream:
                usage = (await answer.json())["usage"]
                assert usage["completion_tokens"] == tokens
                crowd.ended["unary"] += 1
                return
            last_s, gap_s, text = time.monotonic(), 0.0, b""
            async for part in answer.content.iter_any():
                gap_s, last_s = max(gap_s, time.monotonic() - last_s), time.monotonic()
                text += part
            if b'"error"' in text:
                crowd.ended["told"] += 1
                crowd.gaps_s.append(gap_s)
            elif text.rstrip().endswith(b"[DONE]"):
                crowd.ended["streamed"] += 1
            else:
                crowd.odd.append(f"cut: {text[-200:]!r}")
    except (ClientError, TimeoutError, OSError) as error:
        crowd.odd.append(repr(error))


async def until(true: Callable[[], bool], within_s: float) -> float:
    """Seconds until it was."""
    began_s = time.monotonic()
    while not await asyncio.to_thread(true):
        assert time.monotonic() - began_s < within_s
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


def server_at(url: str) -> int:
    """Process that serves there."""
    port = url.rsplit(":", 1)[1]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and port.encode() in words:
                return int(entry.name)
    raise AssertionError(f"no server at {url}")


async def test_a_replica_that_is_taken_away_cuts_nothing(fleet: LiveFleet) -> None:
    async with under_load(fleet.url) as crowd:
        scaling = fleet.scale(1)
        try:
            await until(lambda: len(fleet.able()) == 1, 120.0)
        finally:
            await asyncio.to_thread(scaling.wait, 120)
        await asyncio.sleep(1.0)
    assert crowd.odd == []
    assert crowd.ended["told"] == 0
    assert min(crowd.ended["unary"], crowd.ended["streamed"]) >= 5


async def test_a_replica_that_joins_takes_its_share(fleet: LiveFleet) -> None:
    (first,) = fleet.able()
    scaling = await asyncio.to_thread(fleet.scale, REPLICAS)
    assert await asyncio.to_thread(scaling.wait, 600) == 0
    await asyncio.to_thread(fleet.wait_for, REPLICAS)
    assert first in fleet.able()  # its engine was not started again
    (new,) = [name for name, r in fleet.replicas().items() if r["url"] != first]
    before = _metric(fleet, "scorpio_fleet_requests_total", new)
    async with under_load(fleet.url, tokens=10) as crowd:
        await asyncio.sleep(3.0)
    assert crowd.odd == []
    assert _metric(fleet, "scorpio_fleet_requests_total", new) - before >= 3


@pytest.mark.parametrize(
    ("number", "rotation_s"),
    [(signal.SIGKILL, DEAD_S), (signal.SIGSTOP, HUNG_S)],
    ids=["killed", "stopped"],
)
async def test_a_replica_that_is_gone_loses_nothing(
    fleet: LiveFleet, number: signal.Signals, rotation_s: float
) -> None:
    await asyncio.to_thread(fleet.wait_for, REPLICAS)
    victim = fleet.able()[0]
    pid = server_at(victim)
    async with under_load(fleet.url) as crowd:
        os.kill(pid, number)
        took_s = await until(lambda: victim not in fleet.able(), rotation_s + SLACK_S)
        await asyncio.sleep(3.0)
    print(f"{number.name}: out of rotation after {took_s:.1f} s, {dict(crowd.ended)}, "
          f"longest silence {max(crowd.gaps_s, default=0.0):.1f} s")  # fmt: skip
    assert crowd.odd == []  # every unary request is answered, every stream ends
    assert crowd.ended["unary"] >= 5
    assert max(crowd.gaps_s, default=0.0) <= TOLD_S + SLACK_S
    assert victim not in fleet.able()


def test_a_replica_that_is_gone_is_replaced(fleet: LiveFleet) -> None:
    fleet.wait_for(REPLICAS)
    for url in fleet.able():
        server = EngineServer(url, Path(), fleet.server.process)
        assert server.call("POST", "/v1/completions", TEXT)[0] == 200
    time.sleep(2 * BEAT_S)
    assert len(fleet.replicas()) == REPLICAS  # the others are forgotten


def test_the_command_ends_with_all_it_has_started(fleet: LiveFleet) -> None:
    urls: Sequence[str] = fleet.able()
    pids = [server_at(url) for url in urls]
    log = fleet.server.process.log_path
    fleet.server.process.stop(STOP_S)
    assert not any(Path("/proc", str(pid)).exists() for pid in pids)
    assert "draining" in log.read_text()
