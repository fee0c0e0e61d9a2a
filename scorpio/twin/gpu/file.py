"""How is a GPU model kept for later? As a latency.json, like what `scorpio profile` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from predictors.latency.artifact import (
    Machine,
    ProfileFile,
    ProfileFileError,
    read_profile,
    write_profile,
)
from predictors.latency.belongs import ENGINE_FACTS, MODEL_FACTS
from scorpio.core.latency import LatencyProfile, decode_from_step, prefill_from_step
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.gpu.step_models import BUILT_IN, DEFAULT_KV_BLOCKS, GpuModel
from workloads.errors import UnknownName, WorkloadError

# What `scorpio profile` and `scorpio calibrate` say of an engine.
_KNOWN = (*MODEL_FACTS, *ENGINE_FACTS, "num_gpu_blocks", "block_size", "max_model_len")
LIMITS = ("max_num_seqs", "max_num_batched_tokens")  # that count for the twin


def gpu_model(name_or_file: str) -> GpuModel:
    """Built-in by name, or a latency.json written by `scorpio profile` or `scorpio calibrate`.

    Raises:
        UnknownName: neither; lists the valid names.
        WorkloadError: a file that is not a latency profile, and why.
    """
    if name_or_file in BUILT_IN:
        return BUILT_IN[name_or_file]
    path = Path(name_or_file)
    if not path.is_file():
        raise UnknownName("GPU (no such latency file, nor name)", name_or_file, BUILT_IN)
    try:
        found = read_profile(path)
    except ProfileFileError as error:
        raise WorkloadError(str(error)) from None
    if unknown := sorted(set(found.engine) - set(_KNOWN)):
        raise WorkloadError(
            f"{path}: unknown engine.{unknown[0]}; valid: {', '.join(sorted(_KNOWN))}"
        )
    blocks = found.engine.get("num_gpu_blocks", DEFAULT_KV_BLOCKS)
    if type(blocks) is not int or blocks < 2:
        raise WorkloadError(f"{path}: engine.num_gpu_blocks must be a number of blocks >= 2")
    return GpuModel(
        name=path.stem,
        step=found.profile.step,
        source=f"{path.name}: {found.model} on {found.machine.cpu}, {found.profile.source}",
        gap_s=0.0,  # measured output to output: the engine's own time is in the fit already
        kv_blocks=blocks,
    )


def stated_limits(name_or_file: str, engine: EngineSpec) -> EngineSpec:
    """`engine` with the limits that a latency.json states. Raises WorkloadError."""
    changes: dict[str, Any] = dict(file_limits(name_or_file))
    return replace(engine, **changes)


def file_limits(name_or_file: str) -> dict[str, int]:
    """Those limits by field of `EngineSpec`, as far as it states any.

    Raises:
        WorkloadError: a limit that is no positive number.
    """
    if name_or_file in BUILT_IN:
        return {}
    stated = read_profile(Path(name_or_file)).engine
    limits: dict[str, int] = {}
    for name in LIMITS:
        if name in stated:
            value = stated[name]
            if type(value) is not int or value < 1:
                raise WorkloadError(f"{name_or_file}: engine.{name} must be a number >= 1")
            limits[name] = value
    return limits


def write_gpu(
    path: Path,
    gpu: GpuModel,
    model: str,
    limits: Mapping[str, int] | None = None,
    fit: Mapping[str, object] | None = None,
) -> None:
    """Keep a model, its gap folded into the fixed time of a step.

    Args:
        model: names what was served.
        limits: of the engine it was seen on, as `stated_limits` reads them.
        fit: how it was found and how well it fits, for people.
    """
    step = replace(gpu.step, base_s=gpu.step.base_s + gpu.gap_s)
    profile = LatencyProfile(
        decode=decode_from_step(step),
        prefill=prefill_from_step(step),
        step=step,
        source=gpu.source,
    )
    content = ProfileFile(
        profile=profile,
        model=model,
        machine=Machine(cpu=f"modelled: {gpu.name}", cores=1),
        vllm="modelled",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fit=fit or {},
        engine={"num_gpu_blocks": gpu.kv_blocks, **(limits or {})},
    )
    write_profile(path, content)
