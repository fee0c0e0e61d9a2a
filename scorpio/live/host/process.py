"""Is the server up, and is it really down? Starts one server, waits for health, ends its tree.

with ServerProcess(command, url, log_path) as server:
    server.wait_healthy(timeout_s=300, progress=print_elapsed)
    ...
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from scorpio.proctree import ProcessId, is_alive, send, tree_of, wait_gone

_POLL_S = 0.5
_TAIL_LINES = 30

Progress = Callable[[float], None]  # seconds waited so far


class ServerFailedError(RuntimeError):
    """The server did not come up or went away; the message ends with the tail of its log."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log file ("" when there is none)."""
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""


class ServerProcess:
    """One server in a session of its own; a context manager that leaves no child behind."""

    def __init__(
        self, command: Sequence[str], url: str, log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.url = url
        self.log_path = log_path
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[ProcessId] = set()
        self._healthy = False

    @property
    def pid(self) -> int:
        """Process id of the server; RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def start(self) -> None:
        """Start it; its output goes to the log file."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,  # session id = its pid: how its tree is found again
            )

    def check_alive(self) -> None:
        """Raises ServerFailedError when the server has ended."""
        if self._process is not None and (how := self._ended()) is not None:
            raise self._failure(f"the server ended {how}")

    def wait_healthy(self, timeout_s: float, progress: Progress | None = None) -> float:
        """Wait until GET /health answers 200; returns the seconds it took.

        Raises:
            ServerFailedError: it ended, or was not healthy in time.
        """
        start_s = time.monotonic()
        while (waited_s := time.monotonic() - start_s) < timeout_s:
            self.check_alive()
            self._seen |= tree_of(self.pid)
            if self._answers():
                self._healthy = True
                return waited_s
            if progress is not None:
                progress(waited_s)
            time.sleep(_POLL_S)
        raise self._failure(f"the server was not healthy within {timeout_s:.0f} s")

    def stop(self, timeout_s: float = 20.0) -> None:
        """End the server and wait for every process of its tree.

        A server that is still starting loses a SIGTERM, so only a healthy one gets the time to
        leave by itself; then the whole tree is asked, then killed.

        Raises:
            RuntimeError: a process survived SIGKILL (it is named).
        """
        if self._process is None:
            return
        self._seen |= tree_of(self.pid)
        if self._healthy and self._ended() is None:
            self._process.terminate()
            end_s = time.monotonic() + timeout_s
            while self._ended() is None and time.monotonic() < end_s:
                time.sleep(0.1)
        for signal_number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            left = self._left()
            if left:
                send(left, signal_number)
                self._wait(patience_s)
        left = self._left()
        if left:
            raise RuntimeError(f"processes survived SIGKILL: {sorted(p.pid for p in left)}")
        self._process.wait()
        self._process = None
        self._healthy = False

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _left(self) -> set[ProcessId]:
        # Members may have been born since the last look; orphans are found by their session.
        self._seen |= tree_of(self.pid)
        return {p for p in self._seen if is_alive(p)}

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):  # URLError and timeouts are OSErrors
            return False

    def _ended(self) -> str | None:
        # Looked at without reaping: as long as our child is a zombie its pid, which is also the
        # session id, cannot be given to a stranger whom we would then signal.
        seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is None:
            return None
        exited = seen.si_code == os.CLD_EXITED
        return f"with exit code {seen.si_status}" if exited else f"by signal {seen.si_status}"

    def _wait(self, timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s and self._left():
            wait_gone(self._seen, 0.2)

    def _failure(self, what: str) -> ServerFailedError:
        tail = log_tail(self.log_path)
        return ServerFailedError(f"{what}; last lines of {self.log_path}:\n{tail}")
