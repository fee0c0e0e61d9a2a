"""How does a real vLLM scheduler come to life without a model? Configs, requests, fake outputs.

The twin (scorpio/twin) imports vLLM only through here. Nothing is downloaded and no weight is
read: a one-layer Llama config.json satisfies `ModelConfig`, and the KV pool is a number of blocks.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("HF_HUB_OFFLINE", "1")
logging.getLogger("vllm").setLevel(logging.ERROR)  # start-up advice about CPUs is noise here

import torch  # noqa: E402
from vllm.config import (  # noqa: E402
    CacheConfig,
    DeviceConfig,
    KVTransferConfig,
    LoRAConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    SpeculativeConfig,
    VllmConfig,
)
from vllm.v1.core.kv_cache_utils import (  # noqa: E402
    resolve_kv_cache_block_sizes,
    update_kv_cache_capacity,
)
from vllm.v1.core.sched.scheduler import Scheduler  # noqa: E402
from vllm.v1.kv_cache_interface import (  # noqa: E402
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.structured_output import StructuredOutputManager  # noqa: E402

from scorpio.engine.virtual.spec import EngineSpec  # noqa: E402

__all__ = ["EngineSpec", "build_scheduler", "build_vllm_config"]

S = TypeVar("S", bound=Scheduler)

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 128,
    "head_dim": 64,
    "max_position_embeddings": 1 << 20,
    "torch_dtype": "float32",
}


def build_vllm_config(spec: EngineSpec, scorpio: Mapping[str, Any] | None = None) -> VllmConfig:
    """`VllmConfig` of a small local Llama; `scorpio` becomes `additional_config["scorpio"]`."""
    config = copy(_vllm_config(spec))
    config.additional_config = {"scorpio": dict(scorpio)} if scorpio is not None else {}
    return config


@lru_cache(maxsize=64)
def _vllm_config(spec: EngineSpec) -> VllmConfig:
    """Takes a second to build, and the scheduler only reads it: one per spec and process."""
    with tempfile.TemporaryDirectory(prefix="scorpio-twin-") as folder:
        Path(folder, "config.json").write_text(json.dumps(_LLAMA))
        model = ModelConfig(
            model=folder,
            tokenizer=folder,
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=spec.effective_max_model_len,
            seed=0,
        )
        config = VllmConfig(
            model_config=model,
            scheduler_config=SchedulerConfig(
                max_num_seqs=spec.max_num_seqs,
                max_num_active_seqs=spec.max_num_active_seqs,
                max_num_batched_tokens=spec.max_num_batched_tokens,
                max_model_len=spec.effective_max_model_len,
                is_encoder_decoder=False,
                enable_chunked_prefill=spec.enable_chunked_prefill,
                policy=spec.policy,
                long_prefill_token_threshold=spec.long_prefill_token_threshold,
                long_prefill_token_threshold_adaptive=spec.long_prefill_token_threshold_adaptive,
                watermark=spec.watermark,
                async_scheduling=spec.pipeline_depth == 2 and not spec.num_speculative_tokens,
            ),
            cache_config=CacheConfig(
                block_size=spec.block_size,
                enable_prefix_caching=spec.enable_prefix_caching,
                mamba_cache_mode=spec.mamba_cache_mode,
            ),
            device_config=DeviceConfig(device="cpu"),
            speculative_config=_drafts(spec, model),
            lora_config=LoRAConfig(max_loras=spec.max_loras) if spec.max_loras else None,
        )
    config.cache_config.num_gpu_blocks = spec.num_blocks
    # vLLM switches it off for the CPU platform, on which this happens to be built.
    config.scheduler_config.async_scheduling = spec.pipeline_depth == 2
    return config


def _drafts(spec: EngineSpec, model: ModelConfig) -> SpeculativeConfig | None:
    """By a method that needs no second model: the scheduler reads how many, and little else."""
    if not spec.num_speculative_tokens:
        return None
    return SpeculativeConfig(
        method="ngram",
        num_speculative_tokens=spec.num_speculative_tokens,
        prompt_lookup_max=2,
        target_model_config=model,
        target_parallel_config=ParallelConfig(),
    )


def build_scheduler(
    spec: EngineSpec,
    scheduler_cls: type[S],
    scorpio: Mapping[str, Any] | None = None,
    kv_transfer: Mapping[str, Any] | None = None,
) -> S:
    """A scheduler of the given class, exactly as EngineCore would build it. kv_transfer: what
    `--kv-transfer-config` says."""
    config = build_vllm_config(spec, scorpio)
    if kv_transfer is not None:
        config.kv_transfer_config = KVTransferConfig(**kv_transfer)
    groups = _groups(spec)
    kv_cache = KVCacheConfig(
        num_blocks=spec.num_blocks, kv_cache_tensors=[], kv_cache_groups=groups
    )
    if spec.sliding_window or spec.mamba_groups:
        update_kv_cache_capacity(config, kv_cache)
    config.cache_config.block_size = min(group.kv_cache_spec.block_size for group in groups)
    block_size, hash_block_size = resolve_kv_cache_block_sizes(kv_cache, config)
    scheduler = scheduler_cls(
        config,
        kv_cache,
        StructuredOutputManager(config),
        block_size=block_size,
        hash_block_size=hash_block_size,
    )
    # vLLM derives this from Triton and the GPU; here it is a stated choice.
    scheduler.use_v2_model_runner = spec.model_runner == "v2"
    return scheduler


def _groups(spec: EngineSpec) -> list[KVCacheGroupSpec]:
    """Of layers, as vLLM puts them together: a block of each has the same bytes."""
    shape = {"block_size": spec.block_size, "num_kv_heads": 1, "head_size": 64}
    kinds: list[KVCacheSpec] = []
    if spec.attention:
        kinds.append(FullAttentionSpec(**shape, dtype=torch.float32))
    if spec.sliding_window:
        kinds.append(
            SlidingWindowSpec(**shape, dtype=torch.float32, sliding_window=spec.sliding_window)
        )
    whole = spec.mamba_cache_mode == "none"  # then a state is all of a request that is kept
    state = MambaSpec(
        block_size=spec.effective_max_model_len if whole else spec.block_size,
        shapes=((2 * 64 * spec.block_size,),),
        dtypes=(torch.float32,),
        mamba_cache_mode=spec.mamba_cache_mode,
    )
    kinds += [state] * spec.mamba_groups
    return [KVCacheGroupSpec([f"layer {row}"], kind) for row, kind in enumerate(kinds)]
