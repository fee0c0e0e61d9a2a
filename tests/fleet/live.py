"""A fleet of two real engines: `scorpio serve tiny --replicas 2`, one for all live tests.

Each start of an engine takes a minute on two cores, so tests run in their order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engine_server import MAX_MODEL_LEN, MODEL, UNTIMED, EngineServer, running, write_inputs

FLEET_MARKS = [pytest.mark.engine, pytest.mark.timeout(1500), pytest.mark.xdist_group("fleet")]
TEXT = {"prompt": "hello", "max_tokens": 4, "temperature": 0}
REPLICAS = 2
STOP_S = 120.0
PATIENCE_S = 120.0  # ends a test that has failed
VLLM_ARGS = (
    *("--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "8"),
    *("--max-num-batched-tokens", "128", "--distributed-executor-backend", "uni"),
    *("--disable-access-log-for-endpoints", "/scorpio/load,/scorpio/health,/metrics"),
)


@dataclass
class LiveFleet:
    """server: its address and process; its run_dir is the fleet's."""

    server: EngineServer

    @property
    def url(self) -> str:
        return self.server.url

    def replicas(self) -> dict[str, Any]:
        return dict(self.server.status()["replicas"])

    def able(self) -> list[str]:
        """Addresses of those in rotation."""
        return [r["url"] for r in self.replicas().values() if r["state"] == "ok"]

    def wait_for(self, replicas: int) -> None:
        self.server.wait_for(
            lambda: len(self.able()) == replicas, f"{replicas} replicas", timeout_s=600.0
        )

    def quotes(self) -> dict[str, int]:
        """Of all replicas: quotes given, and those that were taken and have ended."""
        told = [replica["status"]["quotes"] for replica in self.replicas().values()]
        ended = sum(one["kept"] + one["broken"] for one in told)
        return {"given": sum(one["given"] for one in told), "ended": ended}

    def metric(self, name: str, label: str = "") -> float:
        """Sum of a metric's samples in which `label` is found."""
        lines = self.server.call("GET", "/metrics")[2].decode().splitlines()
        found = [line for line in lines if line.startswith(name + "{") and label in line]
        assert found or name.startswith("scorpio_fleet")
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.fixture(scope="session")
def live_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    directory = tmp_path_factory.mktemp("fleet")
    slo, latency = write_inputs(directory)
    own = ["--policy", "scorpio-paper", "--latency", str(latency), *UNTIMED]
    command = [
        *(sys.executable, "-m", "scorpio", "serve", MODEL, "--replicas", str(REPLICAS)),
        *(*own, "--slo-config", str(slo), "--run-dir", str(directory / "run"), *VLLM_ARGS),
    ]
    with running(directory, command, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}) as server:
        made = LiveFleet(server)
        made.wait_for(REPLICAS)
        yield made
        server.process.stop(STOP_S)
