"""Which GPU model explains a real engine's log? `scorpio calibrate`.

Two depths. `gap`: the GPU is a built-in one and only vLLM's own time per step is not known.
`speed`: another GPU or model; the memory-bound and the compute-bound terms of the nearest
built-in model are scaled, one factor each. `auto` tries the first, and goes on to the second when
typical TPOT errors stay above GAP_IS_ENOUGH. All are fitted on the first part of the log by
running the twin on the log's own arrivals; the rest of the log is for the examination.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.gpu.scaling import GAP_IS_ENOUGH, MAX_GAP_S, Free, scaled
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel
from scorpio.twin.length_hint import LengthHint
from scorpio.twin.run import run_twin
from workloads.results.records import RequestRecord

_TTFT_FLOOR_S = 0.01  # a few ms of a short TTFT are the phase of a step, not its speed
_LINE_EVALUATIONS, _SPEED_EVALUATIONS = 14, 45
_EVALUATIONS = {"gap": _LINE_EVALUATIONS, "speed": _LINE_EVALUATIONS + _SPEED_EVALUATIONS}  # most
Tell = Callable[[int, int, str], None]  # (replays done, at most, what came of the last)


class _Progress:
    """Counts replays of the log."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell, self._done, self._most = tell, 0, 0

    def more(self, replays: int) -> None:
        self._most += replays

    def step(self, what: str) -> None:
        self._done += 1
        if self._tell is not None:
            self._tell(self._done, max(self._most, self._done), what)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted model and how it was found; `loss` is that of the fitted part of the log."""

    gpu: GpuModel
    base: str
    free: Free
    memory_factor: float
    compute_factor: float
    fitted_requests: int
    loss: float


def replay_log(log: EngineLog, gpu: GpuModel, spec: EngineSpec) -> list[RequestRecord]:
    """The twin's records for the log's arrivals under stock vLLM, without noise."""
    config = TwinConfig(gpu, log.spec(spec), NO_NOISE, LengthHint(None))
    return run_twin(config, log.requests, "fcfs").records


def calibrate(
    log: EngineLog,
    spec: EngineSpec,
    bases: Sequence[GpuModel] = tuple(BUILT_IN.values()),
    free: Free = "gap",
    fitted_share: float = 1.0 / 3.0,
    tell: Tell | None = None,
) -> Calibration:
    """The best of `bases` after fitting. tell: how far it is, a replay of the log at a time.
    Raises ValueError on a share out of (0, 1] or no base."""
    if not 0.0 < fitted_share <= 1.0 or not bases:
        raise ValueError("need 0 < fitted_share <= 1 and at least one base model")
    n = max(1, round(len(log.requests) * fitted_share))
    told = _Progress(tell)

    def loss(gpu: GpuModel) -> float:
        found = _loss(log.real[:n], replay_log(log, gpu, spec)[:n])
        told.step(f"error {100.0 * math.sqrt(found):.1f} %")
        return found

    def distance(base: GpuModel) -> float:
        found = _distance(log, base, spec)
        told.step(f"looked at {base.name}")
        return found

    told.more((len(bases) if len(bases) > 1 else 0) + _EVALUATIONS["gap"])
    start = bases[0] if len(bases) == 1 else min(bases, key=distance)
    fitted: Free = "speed" if free == "speed" else "gap"
    told.more(_EVALUATIONS["speed"] - _EVALUATIONS["gap"] if fitted == "speed" else 0)
    memory, compute, gap_s, best = (_fit_gap if fitted == "gap" else _fit_speed)(start, loss)
    if free == "auto" and math.sqrt(best) > GAP_IS_ENOUGH:
        fitted = "speed"
        told.more(_EVALUATIONS["speed"])
        memory, compute, gap_s, best = _fit_speed(start, loss)
    gpu = replace(
        scaled(start, memory, compute, gap_s),
        name=f"{log.name}-calibrated",
        source=f"{start.name} ({start.source}), {fitted} fitted to {n} requests of {log.name}",
    )
    return Calibration(gpu, start.name, fitted, memory, compute, n, best)


def _fit_gap(base: GpuModel, loss: Callable[[GpuModel], float]) -> tuple[float, ...]:
    found = minimize_scalar(
        lambda gap_s: loss(base.with_gap(float(gap_s))),
        bounds=(0.0, MAX_GAP_S),
        method="bounded",
        options={"xatol": 3e-5, "maxiter": _LINE_EVALUATIONS},
    )
    return 1.0, 1.0, float(found.x), float(found.fun)


def _fit_speed(base: GpuModel, loss: Callable[[GpuModel], float]) -> tuple[float, ...]:
    def at(log_factors: Iterable[float]) -> float:
        memory, compute = (math.exp(float(x)) for x in log_factors)
        return loss(scaled(base, memory, compute, base.gap_s))

    # One factor for all terms first: the simplex then starts near the valley.
    common = minimize_scalar(
        lambda x: at((x, x)),
        bounds=(-2.5, 2.5),
        method="bounded",
        options={"xatol": 0.02, "maxiter": _LINE_EVALUATIONS},
    )
    x = float(common.x)
    found = minimize(
        at,
        (x, x),
        method="Nelder-Mead",
        options={
            "initial_simplex": [(x, x), (x + 0.1, x), (x, x + 0.15)],
            "xatol": 0.003,
            "fatol": 1e-6,
            "maxfev": _SPEED_EVALUATIONS,
        },
    )
    memory, compute = (math.exp(float(value)) for value in found.x)
    return memory, compute, base.gap_s, float(found.fun)


def _loss(real: Sequence[RequestRecord], twin: Sequence[RequestRecord]) -> float:
    """Squared log error: TPOT request by request, TTFT of the crowd."""
    pairs = [
        (a.tpot_s, b.tpot_s)
        for a, b in zip(real, twin, strict=True)
        if a.tpot_s and b.tpot_s  # both have two tokens and took some time
    ]
    logs = np.log(np.array(pairs))
    tpot = float(np.mean((logs[:, 1] - logs[:, 0]) ** 2)) if len(pairs) else 0.0
    ttft = [
        math.log(_TTFT_FLOOR_S + sum(r.ttft_s or 0.0 for r in records) / len(records))
        for records in (real, twin)
    ]
    return tpot + 0.1 * (ttft[1] - ttft[0]) ** 2


def _distance(log: EngineLog, base: GpuModel, spec: EngineSpec) -> float:
    """How far a base is from the log before any fit; the scale of time alone is forgiven."""
    twin = replay_log(log, base, spec)
    ratios = [
        math.log(b.tpot_s / a.tpot_s)
        for a, b in zip(log.real, twin, strict=True)
        if a.tpot_s and b.tpot_s
    ]
    return float(np.std(ratios)) + 0.1 * abs(float(np.mean(ratios))) if ratios else math.inf
