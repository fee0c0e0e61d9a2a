"""How do several API processes of one server start, hear signals and end? Under one parent.

They share a socket, and each answers what it accepts. The parent speaks no HTTP, and engines are
its children, too. It hands on what it is told: SIGTERM and Ctrl-C to all API processes, which then
drain (scorpio/server/drain.py), SIGHUP and SIGUSR2 to one, which tells the others through
`run_dir`. When one of all these processes dies the others end: a supervisor starts them anew.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from pathlib import Path
from types import FrameType
from typing import Any

from scorpio.server.early_signals import hold_signals
from scorpio.server.launch.follow import follow
from scorpio.server.launch.starting import kill_descendants
from scorpio.server.vllm_api import (
    EngineDiedError,
    Processes,
    api_process_main,
    several_api_processes,
)

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus_client: one file for each process
_METRICS = "metrics"
_TO_ALL = (signal.SIGTERM, signal.SIGINT)
_CUT_S = (0.2, 2.0, 3.0)  # for clients to hear that their requests are cut


def run_several(args: Any, run_dir: Path, reloads: bool) -> None:
    """Until it is told to stop, and nothing is in work. reloads: SIGHUP reads the SLO file.

    Raises:
        EngineDiedError: a process ended and was not told to.
    """
    try:
        with _metrics_dir(run_dir), several_api_processes(args, run) as processes:
            parent = Parent(processes)
            with parent.taking_signals(reloads):
                parent.wait()
    except BaseException:  # also when they do not come up: Python would wait for each of them
        kill_descendants(os.getpid())
        raise


def run(*args: Any) -> None:
    """An API process: it ends with its parent, whatever becomes of that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent's
    hold_signals()
    if (parent := parent_process()) is not None and parent.pid is not None:
        follow(parent.pid)
    try:
        api_process_main(*args)
    except EngineDiedError:  # the parent sees it where the engine is no child of its own
        sys.exit(1)


class Parent:
    """Of the processes of one server."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._told = False

    @contextmanager
    def taking_signals(self, reloads: bool) -> Iterator[None]:
        """From now on. What is taken by none keeps its handler: it ends the server."""
        to_one = (signal.SIGUSR2, *((signal.SIGHUP,) if reloads else ()))
        before = {number: signal.signal(number, self._stop) for number in _TO_ALL}
        before |= {number: signal.signal(number, self._hand_on) for number in to_one}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> None:
        """Until all API processes have ended. Raises EngineDiedError."""
        while True:
            alive = self._alive()
            # After `alive`: one that is in neither list would never be heard of.
            engines, api = self._died()
            if (engines or api) and not self._told:
                self._cut()
                raise EngineDiedError(f"{[*engines, *api][0].name} died; its last words are above")
            if not alive or engines:
                return
            waits = (*alive, *self._processes.engines)
            connection.wait([process.sentinel for process in waits])

    def _alive(self) -> Sequence[Any]:
        return [process for process in self._processes.api if process.is_alive()]

    def _died(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """Engines, which do not end by themselves, and API processes."""
        engines = [p for p in self._processes.engines if not p.is_alive()]
        return engines, [p for p in self._processes.api if not p.is_alive() and p.exitcode]

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """They drain; a further signal ends their patience."""
        self._told = True
        for process in self._alive():
            process.terminate()

    def _hand_on(self, number: int, _frame: FrameType | None) -> None:
        for process in self._alive()[:1]:
            with suppress(ProcessLookupError):  # the signal came while its end was being noted
                os.kill(process.pid, number)

    def _cut(self) -> None:
        """Nothing comes of what is in work any more: clients are told, and not waited for. A signal
        that comes before the last one was heard is lost, so after a while another one follows."""
        for patience_s in _CUT_S:
            self._stop(signal.SIGTERM, None)
            for process in self._alive():
                process.join(patience_s)


@contextmanager
def _metrics_dir(run_dir: Path) -> Iterator[None]:
    """Where API processes count together, for one run of the server; the user's own is kept."""
    if METRICS_VARIABLE in os.environ:
        yield
        return
    directory = run_dir / _METRICS
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    os.environ[METRICS_VARIABLE] = str(directory)
    try:
        yield
    finally:
        del os.environ[METRICS_VARIABLE]
        shutil.rmtree(directory, ignore_errors=True)
