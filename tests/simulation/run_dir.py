"""What do operators see and do through `run_dir`, and what if the disk is gone for a while?"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from scorpio import channel
from tests.simulation.promises import Promises
from tests.simulation.scheduler import WatchedScheduler

_STEPS_TO_SEE = 12  # of 5 ms or more: the engine looks every 50 ms
_SHM = Path("/dev/shm")
_NAME = re.compile(r"r\d{5}|fresh-\d+")  # as tests/simulation/load.py draws them
_Path = str | os.PathLike[str]


class RunDir:
    """One engine's directory. While the disk is broken every read and write of it fails."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="scorpio-", dir=_SHM if _SHM.is_dir() else None)
        self._aside = self.path + ".aside"
        self.told_twice = False
        self._mended_at = -_STEPS_TO_SEE
        self._asked: tuple[int, str, int] | None = None  # number, policy, steps made by then

    def breaks(self) -> None:
        """From now on it is not there."""
        if os.path.isdir(self.path):
            os.rename(self.path, self._aside)

    def works(self, steps: int) -> None:
        """It is back, with what was in it."""
        self._mended_at = steps
        if os.path.isdir(self._aside):
            shutil.rmtree(self.path, ignore_errors=True)
            os.rename(self._aside, self.path)

    def switch(self, policy: str, steps: int) -> None:
        """An operator's `PUT`; it fails when the disk does."""
        try:
            numbers = self._two_write(policy)
        except OSError:
            self._asked = None
            return
        self._asked = max(numbers), policy, steps
        self.told_twice |= len(set(numbers)) < len(numbers)

    def _two_write(self, policy: str) -> list[int]:
        """Two operators who want the same; one has read when the other comes, and goes on once
        that one is done or waits for its turn."""
        came, first_one = threading.Event(), threading.get_ident()
        second: list[Future[int]] = []

        def other() -> int:
            try:
                return channel.write_control(self.path, policy)
            finally:
                came.set()

        def read(run_dir: _Path) -> channel.Control | None:
            found = real_read(run_dir)
            if threading.get_ident() == first_one:
                second.append(threads.submit(other))
                came.wait()
            return found

        def flock(handle: int, operation: int) -> None:
            if threading.get_ident() != first_one:
                came.set()
            real_flock(handle, operation)

        real_read, real_flock = channel.read_control, fcntl.flock
        with (
            ThreadPoolExecutor(1) as threads,
            mock.patch.object(channel, "read_control", read),
            mock.patch.object(fcntl, "flock", flock),
        ):
            first = channel.write_control(self.path, policy)
            return [first, second[0].result()]

    def check_drained(self, scheduler: WatchedScheduler, promises: Promises) -> None:
        """34: the status of an engine at rest is of now, and the last switch has been made. 28: it
        holds no name of a request or a tenant."""
        promises.require(not self.told_twice, 34, "two switches were told the same number")
        if not os.path.isdir(self.path):
            return
        status = channel.read_status(self.path)
        steps = scheduler.telemetry.steps
        if status is None or not steps:
            promises.require(not steps, 34, f"no status after {steps} steps")
            return
        names = _NAME.findall(str(status))
        promises.require(not names, 28, f"the status names {names[:3]}")
        behind = steps - int(status["steps"])
        rested = steps - self._mended_at < _STEPS_TO_SEE  # since before it could be written
        promises.require(behind <= 4 or rested, 34, f"the status is {behind} of {steps} steps old")
        if self._asked is not None and steps - self._asked[2] >= _STEPS_TO_SEE:
            seq, policy, _ = self._asked
            shown = (status["control_seq"], status["policy"])
            promises.require(shown == (seq, policy), 34, f"asked for {seq, policy}, shown {shown}")

    def remove(self) -> None:
        """Leave nothing behind."""
        for path in (self.path, self._aside):
            shutil.rmtree(path, ignore_errors=True)
