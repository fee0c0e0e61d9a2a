"""What of an engine that was never measured? With `--profile auto` it is, by a process beside the
server, once that is healthy and has had nothing to do for a while. Requests that come meanwhile are
served; what was measured goes into force, and is kept for the next start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predictors.latency.access import Access
from scorpio.server.vllm_api import give_own_key

AUTO, OFF = "auto", "off"
KEY_VARIABLE = "SCORPIO_OWN_KEY"  # of the process that measures, and of no other
BUDGET_S, EXAM_S = 75.0, 15.0
TAKES_S = 100.0  # about: designed points, a random load, warm-up
IDLE_S = 5.0  # without work, before it begins
PERIOD_S = 1.0
_MOST_S = 900.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AutoProfile:
    """Of the server at url, with this run directory; written to `out`. key: lets it in, whatever
    keys clients need. certificate: the server's own."""

    url: str
    run_dir: Path
    model: str
    out: Path
    say: Say
    key: str = field(default="", repr=False)
    certificate: Path | None = None

    def start(self) -> None:
        """On a thread of its own; it ends with this process."""
        threading.Thread(target=self._measure, name="auto-profile", daemon=True).start()

    def _measure(self) -> None:
        self._wait_idle()
        self.say(f"measuring this engine: about {TAKES_S:.0f} s; requests are served meanwhile")
        command = [
            *(sys.executable, "-m", "scorpio", "profile", "--model", self.model),
            *("--url", self.url, "--run-dir", str(self.run_dir), "--out", str(self.out)),
            *("--budget-s", str(BUDGET_S), "--exam-s", str(EXAM_S), "--apply"),
        ]
        if self.key:
            command += ["--api-key-env", KEY_VARIABLE]
        if self.certificate is not None:
            command += ["--certificate", str(self.certificate)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_MOST_S,
                env={**os.environ, KEY_VARIABLE: self.key},
            )
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
            tls = None if self.certificate is None else Access({}, self.certificate).tls()
            address = f"{self.url}/scorpio/status"
            with urllib.request.urlopen(address, timeout=5.0, context=tls) as answer:
                status: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return False  # it still starts
        return bool(status.get("engine_reported")) and not status.get("unfinished")


def auto_profile(args: Any, run_dir: Path, model: str, out: Path, say: Say) -> AutoProfile | str:
    """Of the server that these arguments of vLLM start; or why it cannot be measured."""
    if args.uds or getattr(args, "fd", None) is not None:
        return "a socket file is not asked; run `scorpio profile`"
    if args.ssl_certfile and args.ssl_cert_reqs:
        return "clients need certificates; run `scorpio profile`"
    host = args.host or ""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if args.ssl_certfile else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{args.port}"
    certificate = Path(args.ssl_certfile) if args.ssl_certfile else None
    return AutoProfile(url, run_dir, model, out, say, give_own_key(args), certificate)
