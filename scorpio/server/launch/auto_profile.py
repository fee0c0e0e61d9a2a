"""What of an engine that was never measured? With `--profile auto` it is, by a process beside the
server, once that is healthy and has had nothing to do for a while. Requests that come meanwhile are
served; what was measured goes into force, and is kept for the next start.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUTO, OFF = "auto", "off"
TAKES_S = 100.0  # about: designed points, a random load, warm-up
IDLE_S = 5.0  # without work, before it begins
PERIOD_S = 1.0
_MOST_S = 900.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AutoProfile:
    """Of the server at url, with this run directory; written to `out`."""

    url: str
    run_dir: Path
    model: str
    out: Path
    say: Say

    def start(self) -> None:
        """On a thread of its own; it ends with this process."""
        threading.Thread(target=self._measure, name="auto-profile", daemon=True).start()

    def _measure(self) -> None:
        self._wait_idle()
        self.say(f"measuring this engine: about {TAKES_S:.0f} s; requests are served meanwhile")
        command = [
            *(sys.executable, "-m", "scorpio", "profile", self.model, "--url", self.url),
            *("--run-dir", str(self.run_dir), "--out", str(self.out), "--apply"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.say(f"the engine was not measured: {type(error).__name__}")
            return
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no reason was given"]
            self.say(f"the engine was not measured: {last[0]}; run `scorpio profile`")
        else:
            self.say(f"measured, in force and kept: {self.out}")

    def _wait_idle(self) -> None:
        idle_s = 0.0
        while idle_s < IDLE_S:
            time.sleep(PERIOD_S)
            idle_s = idle_s + PERIOD_S if self._idle() else 0.0

    def _idle(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/scorpio/status", timeout=5.0) as answer:
                status: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return False  # it still starts
        return bool(status.get("engine_reported")) and not status.get("unfinished")
