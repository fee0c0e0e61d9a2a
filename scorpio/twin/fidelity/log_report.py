"""How well does the twin explain a log? `scorpio calibrate` and `scorpio fidelity`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity.calibrate import Calibration, Tell, calibrate, replay_log
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.side_by_side import LogCase, fidelity
from scorpio.twin.gpu.file import write_gpu
from scorpio.twin.gpu.scaling import Free
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel

PUBLISHED_GAPS_S = (1.5e-3, 2.0e-3)  # what others measured for vLLM's own time per step


def calibrate_log(
    log: EngineLog,
    out: Path,
    bases: Sequence[GpuModel],
    free: Free,
    share: float,
    blocks: int | None,
    tell: Tell | None = None,
) -> tuple[Calibration, list[LogCase]]:
    """Fit on the first part of the log, examine on the rest, write a file for `--gpu`."""
    if blocks is not None:
        bases = [replace(base, kv_blocks=blocks) for base in bases]
    spec = EngineSpec(num_blocks=bases[0].kv_blocks)
    found = calibrate(log, spec, bases, free, share, tell)
    cases = _examined(log, found, spec)
    engine = log.spec(spec)
    write_gpu(
        out,
        found.gpu,
        str(log.flags.get("model", log.name)),
        {
            "max_num_seqs": engine.max_num_seqs,
            "max_num_batched_tokens": engine.max_num_batched_tokens,
        },
        {
            "base": found.base,
            "free": found.free,
            "gap_ms": found.gpu.gap_s * 1e3,
            "memory_factor": found.memory_factor,
            "compute_factor": found.compute_factor,
            "cases": [case.to_dict() for case in cases],
        },
    )
    return found, cases


def log_fidelity(
    log: EngineLog, gpu: GpuModel, share: float, tell: Tell | None = None
) -> list[LogCase]:
    """The twin with its gap fitted on a part of the log, and with published gaps."""
    spec = EngineSpec(num_blocks=gpu.kv_blocks)
    cases = _examined(log, calibrate(log, spec, [gpu], "gap", share, tell), spec)
    for gap_s in PUBLISHED_GAPS_S:
        rows = fidelity(log.real, replay_log(log, gpu.with_gap(gap_s), spec))
        cases.append(LogCase(f"published gap {gap_s * 1e3:g} ms, all {len(log.real)}", rows))
    return cases


def built_in(name: str | None) -> list[GpuModel]:
    """One model by name, or all to choose from. Raises KeyError."""
    return list(BUILT_IN.values()) if name is None else [BUILT_IN[name]]


def _examined(log: EngineLog, found: Calibration, spec: EngineSpec) -> list[LogCase]:
    """The fitted model on the requests that it was not fitted to; on all when none are left."""
    twin, n, total = replay_log(log, found.gpu, spec), found.fitted_requests, len(log.real)
    what = f"gap {found.gpu.gap_s * 1e3:.2f} ms"
    if found.free == "speed":
        what = f"speed x{found.memory_factor:.2f} memory, x{found.compute_factor:.2f} compute"
    dropped = f", {log.dropped} failed ones dropped" if log.dropped else ""
    if n == total:
        title = f"{what} fitted on all {n}: no examination{dropped}"
        return [LogCase(title, fidelity(log.real, twin))]
    title = f"{what} fitted on 1-{n}, tested on {n + 1}-{total}{dropped}"
    return [LogCase(title, fidelity(log.real[n:], twin[n:]))]
