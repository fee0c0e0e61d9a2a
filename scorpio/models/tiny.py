"""What is the smallest model that vLLM really serves on a CPU?

A random Llama with two layers and a byte-level tokenizer: 1.5 MB, made in under a second, the same
bytes for the same seed. Its weights are wide enough that attention matters: a token computed from
wrong context differs. Greedy answers are readable ASCII, one character per token, and as long as
`max_tokens` allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # asking for a model's directory should not load numpy
    import numpy as np
    from numpy.typing import NDArray

HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 128, 2, 1, 64  # CPU attention refuses head_dim 16
INTERMEDIATE, LAYERS, MAX_TOKENS = 256, 2, 2048
SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>")
BOS_ID, EOS_ID = 256, 257
READABLE_IDS = 94  # "!" to "~" come first in the byte alphabet
VOCABULARY = 256 + len(SPECIAL_TOKENS)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def write_tiny_model(directory: Path, seed: int = 0) -> Path:
    """Write config, weights and tokenizer into `directory` (created if need be) and return it."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    _write_json(directory / "config.json", _config())
    generation = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID}
    _write_json(directory / "generation_config.json", generation)
    _write_tokenizer(directory)
    save_file(_weights(seed), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "dtype": "float32",
    }


def _weights(seed: int) -> dict[str, NDArray[np.float32]]:
    import numpy as np

    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        # unit gain per layer: the usual 0.02 would leave a chain that only looks at its last token
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)

    ones = np.ones(HIDDEN, dtype=np.float32)
    weights = {"model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights |= {
            at + "self_attn.q_proj.weight": matrix(HEADS * HEAD_DIM, HIDDEN),
            at + "self_attn.k_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            at + "self_attn.v_proj.weight": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            at + "self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD_DIM),
            at + "mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            at + "mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            at + "mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
            at + "input_layernorm.weight": ones.copy(),
            at + "post_attention_layernorm.weight": ones.copy(),
        }
    weights["model.norm.weight"] = ones.copy()
    # greedy decoding then only picks readable ASCII: one character per token, and none is the end
    weights["lm_head.weight"] = matrix(VOCABULARY, HIDDEN)
    weights["lm_head.weight"][READABLE_IDS:] = 0.0
    return weights


def _write_tokenizer(directory: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "model_max_length": MAX_TOKENS,
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(directory / "tokenizer_config.json", settings)


def _write_json(path: Path, body: Mapping[str, object]) -> None:
    path.write_text(json.dumps(body, indent=2) + "\n")
