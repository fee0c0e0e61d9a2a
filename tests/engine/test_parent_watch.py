"""Does the engine process end when the API process is killed, whatever it is doing?"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest

from scorpio.engine.parent_watch import ENGINE, follow_server
from scorpio.proctree import ProcessId, tree_of, wait_gone

SPAWN = multiprocessing.get_context("spawn")


def _engine(ready: Any, deaf: bool) -> None:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    follow_server()
    ready.send(True)
    time.sleep(120)


def _server(ready: Any, name: str, deaf: bool) -> None:
    SPAWN.Process(target=_engine, args=(ready, deaf), name=name).start()
    time.sleep(120)


def _family(name: str, deaf: bool) -> tuple[int, set[ProcessId]]:
    """(pid of the server, its tree) once the engine watches."""
    told, ready = SPAWN.Pipe(duplex=False)
    server = SPAWN.Process(target=_server, args=(ready, name, deaf))
    server.start()
    assert server.pid is not None
    assert told.poll(60)
    return server.pid, tree_of(server.pid)


@pytest.mark.parametrize("deaf", [False, True])
def test_it_ends_with_its_server(deaf: bool) -> None:
    pid, tree = _family(f"{ENGINE}_DP0", deaf)
    os.kill(pid, signal.SIGKILL)
    assert not wait_gone(tree, 60.0)


def test_ctrl_c_is_for_the_server() -> None:
    pid, tree = _family(ENGINE, deaf=False)
    for process in tree:
        if process.pid != pid:
            os.kill(process.pid, signal.SIGINT)
    assert len(wait_gone(tree, 1.0)) == len(tree)
    os.kill(pid, signal.SIGKILL)
    assert not wait_gone(tree, 60.0)


def test_other_processes_are_left_alone() -> None:
    """A worker of the twin, say: its own parent looks after it."""
    pid, tree = _family("worker", deaf=False)
    os.kill(pid, signal.SIGKILL)
    left = wait_gone(tree, 2.0)
    for process in left:
        os.kill(process.pid, signal.SIGKILL)
    assert left
