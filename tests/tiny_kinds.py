"""Tiny random models whose layers differ: which of them does the CPU build of vLLM really serve?

`windows`: Gemma 3, half of whose layers look back by 64 tokens. `gpt-oss`: the same with attention
sinks and experts. `hybrid`: Qwen3-Next, a gated delta net beside attention; its CPU kernel takes
bfloat16 alone. `mamba`: Mamba 2, without attention. `granite`: Granite 4, Mamba 2 and attention in
turn. `falcon`: Falcon H1, both in each layer.
The CPU build has no kernel for Mamba 1, and Mamba 2, in all three, ends with an IndexError where
its prefix caching keeps a state in the middle of a chunk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorpio.models import tiny

_SAID = 8  # tokens that it says: with few the best one leads by far
_ALL: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": tiny.HIDDEN,
    "bos_token_id": tiny.BOS_ID,
    "eos_token_id": tiny.EOS_ID,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "initializer_range": 0.15,
    "num_hidden_layers": 2,
}
_ATTENTION: dict[str, Any] = {
    "intermediate_size": tiny.INTERMEDIATE,
    "num_attention_heads": tiny.HEADS,
    "num_key_value_heads": tiny.KV_HEADS,
    "head_dim": tiny.HEAD_DIM,
    "max_position_embeddings": tiny.MAX_TOKENS,
}
_WINDOWS: dict[str, Any] = {
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"],
}
_MAMBA_2: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 64,
}


def write_kind(kind: str, directory: Path) -> Path:
    """Config, weights and tokenizer of one of them."""
    import torch
    import transformers

    config = _KINDS[kind](transformers)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        model.get_output_embeddings().weight[_SAID:] = 0.0
    model.save_pretrained(directory)
    tiny._write_tokenizer(directory)
    return directory


def _windows(transformers: Any) -> Any:
    return transformers.Gemma3TextConfig(
        **_ALL,
        **_ATTENTION,
        **_WINDOWS,
        query_pre_attn_scalar=tiny.HEAD_DIM,
    )


def _hybrid(transformers: Any) -> Any:
    return transformers.Qwen3NextConfig(
        **_ALL,
        **_ATTENTION,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=64,
        mlp_only_layers=[],
    )


def _mamba(transformers: Any) -> Any:
    return transformers.Mamba2Config(
        **_ALL, num_heads=4, head_dim=64, state_size=16, n_groups=1, expand=2, chunk_size=64
    )


def _gpt_oss(transformers: Any) -> Any:
    return transformers.GptOssConfig(
        **_ALL,
        **_ATTENTION,
        **_WINDOWS,
        num_local_experts=2,
        num_experts_per_tok=1,
    )


def _granite(transformers: Any) -> Any:
    return transformers.GraniteMoeHybridConfig(
        **_ALL,
        **{name: value for name, value in _ATTENTION.items() if name != "head_dim"},
        layer_types=["mamba", "attention"],
        num_local_experts=0,
        shared_intermediate_size=tiny.INTERMEDIATE,
        **_MAMBA_2,
    )


def _falcon(transformers: Any) -> Any:
    return transformers.FalconH1Config(
        **_ALL,
        **_ATTENTION,
        **_MAMBA_2,
        mamba_d_ssm=256,
    )


_KINDS = {
    "windows": _windows,
    "hybrid": _hybrid,
    "mamba": _mamba,
    "gpt-oss": _gpt_oss,
    "granite": _granite,
    "falcon": _falcon,
}
