"""How well does the twin explain a log? `scorpio calibrate` and `scorpio fidelity`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.fidelity.calibrate import Calibration, Tell, calibrate
from scorpio.twin.fidelity.engine_log import EngineLog
from scorpio.twin.fidelity.replay import replay_log
from scorpio.twin.fidelity.seen_limits import seen_limits
from scorpio.twin.fidelity.side_by_side import SLO_PAIRS, LogCase, crowd_pairs, fidelity
from scorpio.twin.gpu.file import LIMITS, write_gpu
from scorpio.twin.gpu.scaling import Free
from scorpio.twin.gpu.step_models import BUILT_IN, OF_TABLES, GpuModel
from workloads.errors import WorkloadError

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
    """Fit on the first part of the log, examine on the rest, write a file for `--gpu`.

    blocks: of the KV pool; else as the log states or shows it, else the first base's.
    """
    found, spec = fit_log(log, bases, free, share, blocks, tell)
    cases = [examined(log, found, spec)]
    write_gpu(
        out,
        found.gpu,
        log.model,
        {name: getattr(spec, name) for name in LIMITS},
        {
            "base": found.base,
            "free": found.free,
            "gap_ms": found.gpu.gap_s * 1e3,
            "factors": asdict(found.factors),
            "cases": [case.to_dict() for case in cases],
        },
    )
    return found, cases


def fit_log(
    log: EngineLog,
    bases: Sequence[GpuModel],
    free: Free,
    share: float,
    blocks: int | None = None,
    tell: Tell | None = None,
) -> tuple[Calibration, EngineSpec]:
    """The model that explains the first part, and the engine that it was fitted with.
    Raises WorkloadError: no such engine could have served the log."""
    seen = seen_limits(log, max(1, round(len(log.requests) * share)))
    longest = max(r.prompt_tokens + r.output_tokens for r in log.requests)
    needed = 2 + longest // EngineSpec().block_size  # one of them is vLLM's own
    shown = seen.kv_blocks or max(bases[0].kv_blocks, seen.held_blocks)
    pool = blocks or log.kv_blocks or max(shown, needed)
    seqs = seen.max_num_seqs or EngineSpec().max_num_seqs
    most = max(EngineSpec().max_model_len, longest)
    spec = log.spec(EngineSpec(num_blocks=pool, max_num_seqs=seqs, max_model_len=most))
    if longest > spec.effective_max_model_len:
        raise WorkloadError(
            f"{log.name}: holds a request of {longest:,} tokens, and its engine would have refused"
            f" it: max_model_len {spec.max_model_len:,}, a KV pool of {pool:,} blocks of 16 tokens"
        )
    bases = [replace(base, kv_blocks=pool) for base in bases]
    return calibrate(log, spec, bases, free, share, tell), spec


def log_fidelity(
    log: EngineLog, gpu: GpuModel, share: float, tell: Tell | None = None
) -> list[LogCase]:
    """The twin with its gap fitted on a part of the log, and with published gaps."""
    found, spec = fit_log(log, [gpu], "gap", share, log.kv_blocks or gpu.kv_blocks, tell)
    cases = [examined(log, found, spec)]
    for gap_s in PUBLISHED_GAPS_S:
        rows = fidelity(log.real, replay_log(log, gpu.with_gap(gap_s), spec))
        cases.append(LogCase(f"published gap {gap_s * 1e3:g} ms, all {len(log.real)}", rows))
    return cases


def built_in(name: str | None) -> list[GpuModel]:
    """One model by name, or those to choose from. Raises KeyError."""
    return list(OF_TABLES) if name is None else [BUILT_IN[name]]


def examined(log: EngineLog, found: Calibration, spec: EngineSpec) -> LogCase:
    """The fitted model on the requests that it was not fitted to; on all when none are left."""
    twin, n, total = replay_log(log, found.gpu, spec), found.fitted_requests, len(log.real)
    what = f"gap {found.gpu.gap_s * 1e3:.2f} ms" if found.free == "gap" else "speed"
    dropped = f", {log.dropped} failed ones dropped" if log.dropped else ""
    unseen = slice(0 if n == total else n, total)
    on = f"tested on {n + 1}-{total}" if n < total else "no examination"
    which = f"1-{n}" if n < total else f"all {n}"
    title = f"{what} fitted on {which}, {on}{dropped}"
    pairs = (*SLO_PAIRS, *crowd_pairs(log.real[unseen]))
    return LogCase(title, fidelity(log.real[unseen], twin[unseen], pairs))
