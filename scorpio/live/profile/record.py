"""How fast is this running server? Records its steps while probes run, then fits a profile."""

from __future__ import annotations

import datetime
import time
from dataclasses import asdict
from pathlib import Path

from predictors.latency.access import OPEN, Access
from predictors.latency.artifact import ProfileFile, this_machine
from predictors.latency.design import RandomLoad, design_points
from predictors.latency.errors import errors_by_kind, repeat_error
from predictors.latency.fit import fit_profile
from predictors.latency.predict import predict_mixed, predict_paper
from predictors.latency.profile import Prober, Progress, ServedModel, drive, probing
from predictors.latency.samples import StepTable, read_steps
from scorpio import channel
from scorpio.core.latency import LatencyProfile
from scorpio.core.snapshot import StepSample
from scorpio.live.profile.capacity import estimate_capacity

DESIGN_BUDGET_S = 75.0
EXAM_S = 15.0
_EXAM_LOAD = 0.7  # of the estimated capacity
_FOLLOW_S = 20.0  # an engine that steps reads control.json within 50 ms
_MEASURING_POLICY = "fcfs"  # speed is a fact of the engine; stock scheduling shows it undisturbed


class NotRecordingError(RuntimeError):
    """The engine behind the URL does not work in the run directory given."""


class StepRecorder:
    """Turns the engine's step recording on and off through its run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._file = run_dir / channel.STEPS
        self._before: channel.Control | None = None
        self._read_bytes = 0

    async def start(self, prober: Prober) -> None:
        """Record from now on. Raises NotRecordingError.

        An idle engine reads no control file, so probes make it step: one set to learn which
        policy is on, then one more that is recorded. All are warm-up, too.
        """
        await prober.warm_up()
        status = channel.read_status(self._run_dir)
        if status is None:
            raise NotRecordingError(
                f"{self._run_dir} holds no status of an engine; give the directory that the "
                "server was started with (`scorpio serve --run-dir`)"
            )
        control = channel.read_control(self._run_dir)
        policy = str(status.get("policy", _MEASURING_POLICY))
        self._before = channel.Control(policy, control.options if control else {})
        seq = channel.write_control(self._run_dir, _MEASURING_POLICY, record_steps=True)
        give_up_s = time.monotonic() + _FOLLOW_S
        while not self._records(seq):
            if time.monotonic() > give_up_s:
                self.stop()
                raise NotRecordingError(f"the server records no steps in {self._run_dir}")
            await prober.warm_up()
        self._read_bytes = self._file.stat().st_size

    def _records(self, seq: int) -> bool:
        status = channel.read_status(self._run_dir)
        return status is not None and status.get("control_seq") == seq and self._file.exists()

    def take(self) -> list[StepSample]:
        """Steps executed since the last call."""
        start_byte, self._read_bytes = self._read_bytes, self._file.stat().st_size
        return read_steps(self._file, start_byte)

    def stop(self) -> None:
        """Give the engine its policy back; it follows at its next request."""
        if self._before is not None:
            channel.write_control(self._run_dir, self._before.policy, self._before.options)
            self._before = None


async def profile_server(
    url: str,
    run_dir: Path,
    model: str,
    budget_s: float = DESIGN_BUDGET_S,
    exam_s: float = EXAM_S,
    progress: Progress | None = None,
    seed: int = 0,
    access: Access = OPEN,
) -> ProfileFile:
    """Measure the server at `url` whose scheduler works in `run_dir`.

    The exam is a random load that the fit has not seen; its errors are reported apart, and its
    steps then join the others for the final coefficients.

    Raises:
        ProbeError: the server fails. NotRecordingError: wrong `run_dir`. FitError: bad samples.
    """
    recorder = StepRecorder(run_dir)
    async with probing(url, seed, access) as (prober, served):
        source = f"scorpio profile, vLLM {served.vllm}, {served.name}"
        await recorder.start(prober)
        try:
            points = design_points(served.max_model_len)
            driven = await drive(prober, points, budget_s, progress)
            design = recorder.take()
            profile, report = fit_profile(design, source)
            if progress is not None:
                progress("exam: random load", 1.0)
            load = RandomLoad().within(served.max_model_len)
            await prober.random_load(load, _exam_rate_rps(profile, load), exam_s)
            exam = recorder.take()
        finally:
            recorder.stop()
    final, _ = fit_profile([*design, *exam], source)
    return ProfileFile(
        profile=final,
        model=model,
        machine=this_machine(),
        vllm=served.vllm,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        fit=report.to_dict() | {"design": asdict(driven), "exam": exam_errors(profile, exam)},
        engine=_limits(served),
    )


def _limits(served: ServedModel) -> dict[str, object]:
    limits = dict(served.engine) | {"max_model_len": served.max_model_len}
    if served.kv_tokens is not None:
        # In the 16-token blocks that the twin counts in, whatever this engine's block size is.
        limits |= {"block_size": 16, "num_gpu_blocks": served.kv_tokens // 16}
    return limits


def exam_errors(profile: LatencyProfile, exam: list[StepSample]) -> dict[str, object]:
    """Errors of a profile on steps it was not fitted to: both forms, and the steps' own scatter."""
    steps, knee = StepTable.of(exam), profile.step.knee_tokens
    repeats = repeat_error(steps, predict_mixed(profile, steps))
    forms = {
        form: {
            kind: stats.to_dict() if stats else None
            for kind, stats in errors_by_kind(steps, predict(profile, steps), knee).items()
        }
        for form, predict in (("mixed_form", predict_mixed), ("paper_form", predict_paper))
    }
    return {**forms, "repeats": repeats.to_dict() if repeats else None}


def _exam_rate_rps(profile: LatencyProfile, load: RandomLoad) -> float:
    capacity = estimate_capacity(
        profile.step, load.mean_prompt, load.mean_output, tpot_slo_s=10.0 * profile.step.base_s
    )
    return _EXAM_LOAD * capacity.rate_rps
