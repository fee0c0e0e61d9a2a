"""Which engine is modelled? vLLM's defaults, the limits of a latency.json, then what was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.gpu.file import gpu_model, stated_limits
from workloads.errors import UnknownName, WorkloadError

EngineOptions = Mapping[str, int | float | bool]
_MOST = 1 << 20  # positions of the modelled model
# Fields of EngineSpec that may be asked for, and their ranges as vLLM has them.
RANGES: Mapping[str, tuple[float, float]] = {
    "max_num_seqs": (1, 100_000),
    "max_num_active_seqs": (1, 100_000),
    "max_num_batched_tokens": (1, _MOST),
    "max_model_len": (2, _MOST),
    "num_blocks": (2, 100_000_000),
    "enable_prefix_caching": (0, 1),
    "enable_chunked_prefill": (0, 1),
    "long_prefill_token_threshold": (0, _MOST),
    "long_prefill_token_threshold_adaptive": (0, 1),
    "max_num_queued_tokens": (1, 1_000_000_000),
    "max_num_queued_reqs": (1, 1_000_000_000),
    "watermark": (0.0, 0.99),
    "pipeline_depth": (1, 2),
}
_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(EngineSpec)}
_SWITCH = {"true": True, "false": False, "1": True, "0": False}


def engine_option(name: str, text: str) -> int | float | bool:
    """One option as typed. Raises WorkloadError with the valid names, or the valid range."""
    if name not in RANGES:
        raise UnknownName("engine option", name, RANGES)
    least, most = RANGES[name]
    default = _DEFAULTS[name]
    try:
        if isinstance(default, bool):
            return _SWITCH[text.lower()]
        value = float(text) if isinstance(default, float) else int(text)
    except (ValueError, KeyError):
        value = math.nan
    if not least <= value <= most:
        valid = "true or false" if isinstance(default, bool) else f"{least:g} to {most:,g}"
        raise WorkloadError(f"engine option {name}={text}: must be {valid}")
    return value


def modelled_engine(gpu: str, shares_prefixes: bool, options: EngineOptions) -> EngineSpec:
    """vLLM's defaults with the GPU's KV pool; prefix caching where prompts share something, for
    hashing would only cost time elsewhere.

    Raises:
        WorkloadError: no such GPU, or limits with which vLLM does not start.
    """
    base = EngineSpec(num_blocks=gpu_model(gpu).kv_blocks, enable_prefix_caching=shares_prefixes)
    changes: dict[str, Any] = dict(options)
    return checked(replace(stated_limits(gpu, base), **changes))


def checked(engine: EngineSpec) -> EngineSpec:
    """It as it is. Raises WorkloadError: limits with which vLLM does not start."""
    seqs, budget, longest = engine.max_num_seqs, engine.max_num_batched_tokens, engine.max_model_len
    for wrong, why in (
        (budget < seqs, f"max_num_batched_tokens ({budget}) is below max_num_seqs ({seqs})"),
        (
            (engine.max_num_active_seqs or 0) > seqs,
            f"max_num_active_seqs ({engine.max_num_active_seqs}) is above max_num_seqs ({seqs})",
        ),
        (
            engine.long_prefill_token_threshold > longest,
            f"long_prefill_token_threshold is above max_model_len ({longest})",
        ),
    ):
        if wrong:
            raise WorkloadError(f"engine: {why}: vLLM does not start so")
    return engine
