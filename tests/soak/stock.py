"""What does vLLM alone hold over the hours? The same flags without scheduler or middleware."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from scorpio.models.tiny import write_tiny_model
from tests.engine_server import KV_BLOCKS, MAX_MODEL_LEN, MODEL, EngineServer, running


@contextlib.contextmanager
def serve_stock(directory: Path) -> Iterator[EngineServer]:
    """Stock vLLM with the tiny model, from its own entry point."""
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(write_tiny_model(directory / "tiny")), "--served-model-name", MODEL),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", str(MAX_MODEL_LEN)),
        *("--max-num-seqs", "8", "--num-gpu-blocks-override", str(KV_BLOCKS)),
        *("--max-num-batched-tokens", "128", "--distributed-executor-backend", "uni"),
    ]
    with running(directory, command) as server:
        yield server
