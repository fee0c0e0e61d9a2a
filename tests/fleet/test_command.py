"""Does the command of a fleet end when Ray does?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scorpio.proctree import descendants, wait_gone

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
# A fleet without replicas, whose Ray is real and looks after its nodes more often.
COMMAND = """
from scorpio.fleet import command
from scorpio.fleet.settings import FleetSettings
command._start = lambda *_: None
command.LOOK_S = 0.5
command.serve_fleet(FleetSettings(model="tiny", replicas=1), None, 0, command.LOCAL,
                    lambda line: print(line, flush=True))
"""
OFTEN = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


@contextmanager
def running() -> Iterator[subprocess.Popen[str]]:
    """Once Ray is there."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **OFTEN},
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            assert process.stdout is not None
            while "0.0.0.0" not in process.stdout.readline():
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def test_the_command_ends_when_ray_dies() -> None:
    with running() as process:
        tree = descendants(process.pid)
        (raylet,) = (p for p in tree if Path(f"/proc/{p.pid}/exe").resolve().name == "raylet")
        os.kill(raylet.pid, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, "draining" in out) == (1, False)
    assert "EngineDiedError: Ray died on this machine" in err
    assert not wait_gone(tree, 20.0)


def test_the_command_ends_when_it_is_told() -> None:
    with running() as process:
        tree = descendants(process.pid)
        process.terminate()
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, "draining" in out) == (0, True)
    assert not wait_gone(tree, 20.0)
