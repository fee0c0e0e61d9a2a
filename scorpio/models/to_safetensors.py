"""What does this GGUF file look like as a directory that vLLM serves?

Run as `python -m scorpio.models.to_safetensors FILE.gguf OUT_DIR`, in a process of its own:
transformers and torch then never load into the one that asked.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf_file: Path, out_dir: Path) -> None:
    """Write float32 safetensors, config, tokenizer and chat template into `out_dir`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(gguf_file.parent), gguf_file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    if not tokenizer.chat_template:
        raise ValueError(f"{name} carries no chat template: chat completions would not work")
    tokenizer.save_pretrained(out_dir)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(out_dir)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
