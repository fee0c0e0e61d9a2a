"""What has the scheduler done so far? Counters and the status file; no decision is made here."""

from __future__ import annotations

from collections.abc import Callable

from scorpio import __version__, channel
from scorpio.core.latency import StepModel
from scorpio.core.profile_alarm import ProfileAlarm
from scorpio.core.snapshot import StepSample
from scorpio.engine.record.faults import MONITORING, POLICY, Faults
from scorpio.engine.record.outcomes import Outcomes
from scorpio.engine.record.step_recorder import StepRecorder
from scorpio.window import Window

STATUS_PERIOD_S = 0.2


class Telemetry:
    """Counts since start; published to `run_dir` at most every STATUS_PERIOD_S. engine: its place
    among data-parallel ranks."""

    def __init__(
        self,
        run_dir: str | None,
        unnamed_class: str,
        wall_s: Callable[[], float],
        engine: int = 0,
    ) -> None:
        self.run_dir = run_dir
        self.engine = engine
        self.outcomes = Outcomes(unnamed_class)
        self.faults = Faults(wall_s)
        self._watched = _Watched(self.faults)
        self.recorder = StepRecorder(run_dir, engine)
        self.stock_steps = 0
        self.planned_steps = 0
        self.filled_steps = 0
        self.steps = 0
        self.last_plan_s = 0.0
        self.profile_alarm = ProfileAlarm()
        self._told_slow: set[bool] = set()
        self._plan_us = Window()
        self._step_error = Window()
        self._published_s = float("-inf")
        self._wall_s = wall_s
        self._progress_unix_s = wall_s()

    @property
    def fallbacks(self) -> int:
        """Errors of the policy; such a step is stock."""
        return self.faults.counts[POLICY]

    def planned(self, seconds: float) -> None:
        """Time spent in snapshot + plan + apply of one step."""
        self.last_plan_s = seconds
        self._plan_us.add(seconds * 1e6)

    def compare_step(self, sample: StepSample, model: StepModel) -> bool:
        """How far off is the latency profile for a step that has just been executed? True: it is so
        far off for so long that the operator should know. Steps too slow are told once, and steps
        too fast: on a machine that others use the alarm comes and goes."""
        predicted_s = model.sample_s(sample)
        self._step_error.add(abs(predicted_s - sample.duration_s) / sample.duration_s)
        began = self.profile_alarm.observe(sample.duration_s, predicted_s)
        slow = self.profile_alarm.factor > 1.0
        if not began or slow in self._told_slow:
            return False
        self._told_slow.add(slow)
        return True

    def restart_windows(self) -> None:
        """Another policy: what planning costs is looked at from here on."""
        self._plan_us.restart()
        self._step_error.restart()
        self.outcomes.restart_windows()

    def came_back(self) -> None:
        """A step was executed, or work came to an engine that had none or was paused."""
        self._progress_unix_s = self._wall_s()

    def publish(
        self, now_s: float, state: Callable[[], dict[str, object]], force: bool = False
    ) -> None:
        """Write status.json; never raises (a full disk must not stop the engine). What fails is
        tried again when the next one is due."""
        if self.run_dir is None or (not force and now_s - self._published_s < STATUS_PERIOD_S):
            return
        self._published_s = now_s
        with self.watched():
            channel.write_status(self.run_dir, state() | self._own_state(), self.engine)

    def watched(self) -> _Watched:
        """Monitoring inside: what fails is counted and changes nothing else."""
        return self._watched

    def _own_state(self) -> dict[str, object]:
        return (
            self.outcomes.state()
            | self.faults.state()
            | {
                "heartbeat_unix_s": round(self._wall_s(), 3),
                "last_progress_unix_s": round(self._progress_unix_s, 3),
                "policy_version": __version__,
                "fallbacks": self.fallbacks,
                "steps": self.steps,
                "stock_steps": self.stock_steps,
                "planned_steps": self.planned_steps,
                "filled_steps": self.filled_steps,
                "schedule_us": self._plan_us.quantiles(1),
                "step_error": self._step_error.quantiles(4),
                "profile_alarm": self.profile_alarm.on,
                "profile_alarms": self.profile_alarm.episodes,
                "profile_factor": round(self.profile_alarm.factor, 3),
            }
        )


class _Watched:
    """`Telemetry.watched`, entered several times in each step."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._faults.note(MONITORING, error)
        return True
