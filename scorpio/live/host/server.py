"""How does one command get a server of its own? `scorpio serve` as a child, and how to reach it."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scorpio.live.control.admin import Admin
from scorpio.live.host.process import Progress, ServerProcess, free_port
from scorpio.live.host.signals import unwinding_signals

START_TIMEOUT_S = 420.0


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A healthy server and how to reach it."""

    url: str
    run_dir: Path
    admin: Admin
    process: ServerProcess
    start_s: float


@contextlib.contextmanager
def live_server(
    model: str,
    run_dir: Path,
    log_path: Path,
    vllm_args: Sequence[str] = (),
    policy: str = "fcfs",
    latency: Path | None = None,
    progress: Progress | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[LiveServer]:
    """Start `scorpio serve MODEL` on a free port, wait for health, stop it at the end.

    The log is appended to and kept; `run_dir` holds the control and status files.

    Raises:
        ServerFailedError: it did not become healthy; the message holds the tail of its log.
    """
    port, token = free_port(), secrets.token_urlsafe(24)
    url = f"http://127.0.0.1:{port}"
    run_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scorpio", "serve", model, "--policy", policy,
               "--run-dir", str(run_dir), "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    # What is measured is the policy, however short the steps of a small model are.
    command.append("--additional-config.scorpio.most_overhead=0")
    if latency is not None:
        command += ["--latency", str(latency)]
    # The token goes by the environment: command lines are visible to every user of the machine.
    env = {"SCORPIO_ADMIN_TOKEN": token}
    server = ServerProcess([*command, *vllm_args], url, log_path, env)
    with unwinding_signals(), server as process:
        waited_s = process.wait_healthy(timeout_s, progress)
        yield LiveServer(url, run_dir, Admin(url, token), process, waited_s)
