"""Does a server end with the process that started it, however that ends?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scorpio.proctree import ProcessId, tree_of, wait_gone

# A "server" that ignores what it is told, with a child; and who starts it.
SERVER = """
import os, signal, subprocess, sys, time
from scorpio.server.launch.follow import follow_parent
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1) or open(sys.argv[1], "a").write("T"))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
follow_parent()
print(os.getpid(), child.pid, flush=True)
while True:
    time.sleep(0.05)
"""
PARENT = """
import os, subprocess, sys
env = {**os.environ, "SCORPIO_FOLLOW_PID": sys.argv[3] if sys.argv[3:] else str(os.getpid())}
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=env)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []
    yield made
    for process in made:
        for one in tree_of(process.pid):
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def start(
    started: list[subprocess.Popen[str]], notes: Path, *more: str
) -> tuple[subprocess.Popen[str], set[ProcessId]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, SERVER, str(notes), *more],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.append(parent)
    assert parent.stdout is not None
    server, child = map(int, parent.stdout.readline().split())
    return parent, {p for p in tree_of(parent.pid) if p.pid in (server, child)}


def test_it_ends_when_its_parent_is_killed(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    parent, family = start(started, tmp_path / "notes")
    assert len(family) == 2
    os.kill(parent.pid, signal.SIGKILL)
    assert not wait_gone(family, 60.0)
    # told to drain, told to hurry, then ended
    assert (tmp_path / "notes").read_text() == "TT"


def test_it_ends_when_its_parent_was_gone_before_it_looked(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    _, family = start(started, tmp_path / "notes", "1")  # its parent is another one by now
    assert not wait_gone(family, 60.0)
