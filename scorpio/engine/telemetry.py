"""What has the scheduler done so far? Counters and the status file; no decision is made here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TextIO

import numpy as np

from scorpio import __version__, channel
from scorpio.core.plan import FinalState, RejectReason
from scorpio.core.views import StepSample

STATUS_PERIOD_S = 0.2
_WINDOW = 1024


class Telemetry:
    """Counts since start; published to `run_dir` at most every STATUS_PERIOD_S."""

    def __init__(self, run_dir: str | None) -> None:
        self.run_dir = run_dir
        self.final: Counter[FinalState] = Counter()
        self.rejected: Counter[RejectReason] = Counter()
        self.fallbacks = 0
        self.stock_steps = 0
        self.planned_steps = 0
        self.steps = 0
        self.last_plan_s = 0.0
        self._plan_us = np.zeros(_WINDOW)
        self._plans = 0
        self._published_s = float("-inf")
        self._steps_file: TextIO | None = None

    def planned(self, seconds: float) -> None:
        """Time spent in snapshot + plan + apply of one step."""
        self.last_plan_s = seconds
        self._plan_us[self._plans % _WINDOW] = seconds * 1e6
        self._plans += 1

    def plan_us(self) -> dict[str, float]:
        """p50 and p99 over the last steps, in microseconds."""
        window = self._plan_us[: min(self._plans, _WINDOW)]
        if not len(window):
            return {"p50": 0.0, "p99": 0.0}
        p50, p99 = np.percentile(window, (50, 99))
        return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}

    def record_step(self, sample: StepSample) -> None:
        """Append one executed step to steps.jsonl (only while `scorpio profile` asks for it)."""
        if self.run_dir is None:
            return
        if self._steps_file is None:
            self._steps_file = (Path(self.run_dir) / channel.STEPS).open("a", buffering=1)
        row = {name: getattr(sample, name) for name in StepSample.__slots__}
        self._steps_file.write(json.dumps(row) + "\n")

    def stop_recording(self) -> None:
        """Close steps.jsonl."""
        if self._steps_file is not None:
            self._steps_file.close()
            self._steps_file = None

    def publish(self, now_s: float, state: dict[str, object], force: bool = False) -> None:
        """Write status.json; never raises (a full disk must not stop the engine)."""
        if self.run_dir is None or (not force and now_s - self._published_s < STATUS_PERIOD_S):
            return
        self._published_s = now_s
        status = state | {
            "policy_version": __version__,
            "fallbacks": self.fallbacks,
            "rejected_by_reason": {r.value: n for r, n in self.rejected.items()},
            "finished_by_state": {s.value: n for s, n in self.final.items()},
            "steps": self.steps,
            "stock_steps": self.stock_steps,
            "planned_steps": self.planned_steps,
            "schedule_us": self.plan_us(),
        }
        try:
            channel.write_status(self.run_dir, status)
        except OSError:
            self.run_dir = None
