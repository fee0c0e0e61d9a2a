"""Which speed of a GPU explains the gaps between tokens that `/metrics` tells? One number of it.

Either vLLM's own time per step is fitted (`gap`), or one factor for all terms of the base model
(`speed`): how memory and compute compare is taken from the base, as means tell nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from scorpio.twin.fidelity.scrapes import Stretch, read_scrapes, stretches
from scorpio.twin.fidelity.side_by_side import FidelityRow, LogCase
from scorpio.twin.gpu.file import write_gpu
from scorpio.twin.gpu.scaling import Factors, Free, scaled
from scorpio.twin.gpu.step_models import GpuModel

DEFAULT_BUDGET = 2048  # max_num_batched_tokens, which /metrics does not tell
_GAP_IS_ENOUGH = 0.03  # error up to which `auto` leaves the speed as it is
_MOST_GAP_S = 0.02


@dataclass(frozen=True, slots=True)
class ScrapeFit:
    """The fitted model; factor: of all terms of the base, 1 where the gap was fitted."""

    gpu: GpuModel
    base: str
    free: Free
    factor: float


def itl_s(gpu: GpuModel, seen: Stretch) -> float:
    """The mean gap between tokens that this GPU would have given.

    A part of the steps carries a chunk of prefill, the others none: as many as the tokens need.
    """
    share = min(seen.prefill_tokens / seen.chunk_tokens, 1.0) if seen.prefill_tokens else 0.0
    batch, chunk = (seen.decodes, seen.decodes * seen.context_tokens), seen.chunk_tokens
    plain_s = gpu.step.step_s(*batch)
    mixed_s = gpu.step.step_s(*batch, chunk, chunk * chunk)
    return (1.0 - share) * plain_s + share * mixed_s + gpu.gap_s


def fit_stretches(seen: Sequence[Stretch], base: GpuModel, free: Free = "auto") -> ScrapeFit:
    """By all of `seen`, each weighing as its gaps between tokens. Raises ValueError: none."""
    if not seen:
        raise ValueError("need at least one stretch")
    weights = np.array([one.gaps for one in seen], dtype=float)
    real_s = np.array([one.itl_s for one in seen])

    def error(gpu: GpuModel) -> float:
        logs = np.log([itl_s(gpu, one) for one in seen]) - np.log(real_s)
        return float(np.average(logs**2, weights=weights))

    bare_s = np.array([itl_s(base.with_gap(0.0), one) for one in seen])
    gap_s = float(np.average(real_s - bare_s, weights=weights))
    with_gap = base.with_gap(min(max(gap_s, 0.0), _MOST_GAP_S))
    if free == "gap" or (free == "auto" and math.sqrt(error(with_gap)) <= _GAP_IS_ENOUGH):
        return ScrapeFit(with_gap, base.name, "gap", 1.0)
    found = minimize_scalar(
        lambda x: error(_at_speed(base, math.exp(float(x)))),
        bounds=(-2.5, 2.5),
        method="bounded",
        options={"xatol": 1e-4},
    )
    factor = math.exp(float(found.x))
    return ScrapeFit(_at_speed(base, factor), base.name, "speed", factor)


def _at_speed(base: GpuModel, factor: float) -> GpuModel:
    return scaled(base, Factors(factor, factor, factor, factor))


def calibrate_scrapes(
    paths: Sequence[Path], out: Path, base: GpuModel, free: Free, share: float, blocks: int | None
) -> tuple[ScrapeFit, list[LogCase]]:
    """Fit on the first part of the stretches, examine on the rest, write a file for `--gpu`.

    Raises:
        WorkloadError: malformed or too few scrapes; nothing has been written.
    """
    scrapes = read_scrapes(paths)
    seen = stretches(scrapes, DEFAULT_BUDGET)
    n = max(1, round(len(seen) * share))
    told = next((s.kv_blocks for s in scrapes if s.kv_blocks), None)
    base = replace(base, kv_blocks=blocks or told or base.kv_blocks)
    found = fit_stretches(seen[:n], base, free)
    name, what = paths[0].stem, f"{found.free} fitted to {n} stretches between scrapes"
    gpu = replace(
        found.gpu,
        name=f"{name}-calibrated",
        source=f"{base.name} ({base.source}), {what} of {paths[0].name}",
    )
    case = _case(gpu, seen, n)
    fit = {
        "base": found.base,
        "free": found.free,
        "gap_ms": gpu.gap_s * 1e3,
        "factor": found.factor,
        "cases": [case.to_dict()],
    }
    write_gpu(out, gpu, name, fit=fit)
    return replace(found, gpu=gpu), [case]


def _case(gpu: GpuModel, seen: Sequence[Stretch], fitted: int) -> LogCase:
    tested = seen[fitted:] or seen
    how = f"tested on the other {len(tested)}" if seen[fitted:] else "no examination"
    title = f"gap {gpu.gap_s * 1e3:.2f} ms, fitted on {fitted} of {len(seen)} stretches, {how}"
    rows = [
        FidelityRow(
            f"mean gap between tokens, ms ({one.steps:,} steps)",
            one.itl_s * 1e3,
            itl_s(gpu, one) * 1e3,
            itl_s(gpu, one) / one.itl_s - 1.0,
        )
        for one in tested
    ]
    return LogCase(title, rows)
