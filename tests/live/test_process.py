"""Does the process manager leave nothing behind, whatever the server does?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scorpio.live.host.process import ServerFailedError, ServerProcess, free_port, log_tail
from scorpio.proctree import ProcessId, is_alive, tree_of, wait_gone

FAKE = Path(__file__).with_name("fake_server.py")


def fake(tmp_path: Path, mode: str, delay_s: float = 0.0) -> ServerProcess:
    port = free_port()
    command = [sys.executable, str(FAKE), str(port), str(delay_s), mode]
    return ServerProcess(command, f"http://127.0.0.1:{port}", tmp_path / "logs" / "server.log")


def grown_tree(pid: int) -> set[ProcessId]:
    """The tree once server, child and grandchild are all there."""
    end_s = time.monotonic() + 120.0
    while len(tree := tree_of(pid)) < 3:
        assert time.monotonic() < end_s, f"the fake server never grew its tree: {tree}"
        time.sleep(0.05)
    return tree


@pytest.mark.parametrize("mode", ["polite", "deaf", "orphan"])
def test_no_process_survives(tmp_path: Path, mode: str) -> None:
    with fake(tmp_path, mode) as server:
        server.wait_healthy(timeout_s=120)
        tree = grown_tree(server.pid)
        server.stop(timeout_s=1.0)
    assert not wait_gone(tree, timeout_s=60.0)


def test_stop_while_starting(tmp_path: Path) -> None:
    with fake(tmp_path, "deaf", delay_s=300) as server:
        tree = grown_tree(server.pid)
    assert not wait_gone(tree, timeout_s=60.0)


def test_never_healthy_is_bounded_and_cleaned(tmp_path: Path) -> None:
    waited: list[float] = []
    with fake(tmp_path, "polite", delay_s=300) as server:
        tree = grown_tree(server.pid)
        with pytest.raises(ServerFailedError, match="not healthy within 1 s"):
            server.wait_healthy(timeout_s=1.0, progress=waited.append)
    assert waited
    assert not wait_gone(tree, timeout_s=60.0)


def test_crash_shows_exit_code_and_log(tmp_path: Path) -> None:
    with (
        fake(tmp_path, "crash") as server,
        pytest.raises(ServerFailedError, match="exit code 7") as failure,
    ):
        server.wait_healthy(timeout_s=120)
    assert "cannot allocate the moon" in str(failure.value)


def test_stop_without_start_and_twice(tmp_path: Path) -> None:
    server = fake(tmp_path, "polite")
    server.stop()
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.pid


def test_a_reused_pid_is_not_our_process() -> None:
    ours = next(p for p in tree_of(os.getpid()) if p.pid == os.getpid())
    assert is_alive(ours)
    assert not is_alive(ProcessId(ours.pid, ours.start_ticks + 1))


def test_ending_the_command_ends_its_server(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from scorpio.live.host.process import ServerProcess\n"
        "from scorpio.live.host.signals import unwinding_signals\n"
        "url, log, *command = sys.argv[1:]\n"
        "with unwinding_signals(), ServerProcess(command, url, Path(log)) as server:\n"
        "    server.wait_healthy(120)\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(300)\n"
    )
    server = fake(tmp_path, "polite")
    command = [sys.executable, "-c", script, server.url, str(server.log_path), *server.command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        tree = grown_tree(int(owner.stdout.readline()))
        owner.terminate()
        assert owner.wait(timeout=120) == 128 + signal.SIGTERM
    assert not wait_gone(tree, timeout_s=60.0)


def test_log_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none.log") == ""
