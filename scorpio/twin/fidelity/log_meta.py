"""Which limits did a log's engine run with? As the file beside the log says.

A JSON object; vLLM's own names, at the top, in `engine_kwargs` or in `cache_config`: the first of
these counts. What is not there, or null, is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from workloads.errors import TraceError, WorkloadError
from workloads.traces.reading import shown
from workloads.traces.text import whole_text

_PLACES = ("engine_kwargs", "cache_config")
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
_BLOCKS = ("num_gpu_blocks", "num_gpu_blocks_override", "num_blocks", "kv_blocks")
_TOKENS = ("kv_cache_tokens", "kv_cache_size_tokens", "kv_tokens")
_BLOCK_TOKENS = 16  # of a block of the twin
_MOST = 1_000_000_000
_MOST_BLOCKS = 10_000_000  # each is an object of the twin's


def read_meta(path: Path | None) -> tuple[dict[str, int], str]:
    """Limits by field of `EngineSpec`, and the model; nothing without a file.

    Raises:
        WorkloadError: malformed; names the file and the field.
    """
    if path is None:
        return {}, ""
    try:
        meta = json.loads(whole_text(path))
    except (TraceError, ValueError, RecursionError) as error:
        raise WorkloadError(f"{path}: no JSON: {error}") from None
    if not isinstance(meta, dict):
        raise WorkloadError(f"{path}: must be a JSON object, got {shown(meta)}")
    limits: dict[str, int] = {}
    for name in LIMITS:
        for value in list(_stated(path, meta, name))[:1]:
            limits[name] = value
    block_tokens = [*_stated(path, meta, "block_size"), _BLOCK_TOKENS][0]
    tokens = [value for name in _TOKENS for value in _stated(path, meta, name)]
    blocks = [value for name in _BLOCKS for value in _stated(path, meta, name)]
    if pools := [*(n * block_tokens for n in blocks), *tokens]:
        limits["num_blocks"] = pools[0] // _BLOCK_TOKENS
        if not 2 <= limits["num_blocks"] <= _MOST_BLOCKS:
            raise WorkloadError(
                f"{path}: a KV pool of {pools[0]} tokens: need two blocks of 16, at most"
                f" {_MOST_BLOCKS:,}"
            )
    model = meta.get("model")
    return limits, model if isinstance(model, str) else ""


def _stated(path: Path, meta: Mapping[str, object], name: str) -> Iterator[int]:
    """Each value under that name."""
    for place in ("", *_PLACES):
        found = meta.get(place) if place else meta
        if found is None:
            continue
        if not isinstance(found, dict):
            raise WorkloadError(f"{path}: {place} must be a JSON object, got {shown(found)}")
        value = found.get(name)
        if value is None:
            continue
        if type(value) is not int or not 1 <= value <= _MOST:
            where = f"{place}.{name}" if place else name
            raise WorkloadError(f"{path}: {where} must be a whole number >= 1, got {shown(value)}")
        yield value
