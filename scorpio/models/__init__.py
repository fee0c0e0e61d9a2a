"""Which model files can this machine serve right now?

`resolve_model("smollm2")` gives a directory with a real 135M chat model, `resolve_model("tiny")` a
random two-layer one for fast tests; any other name is left to vLLM. Nothing heavy is imported here.
"""

from __future__ import annotations

from scorpio.models.errors import DamagedModel, ModelUnavailable
from scorpio.models.resolve import embedded_names, ready_directory, resolve_model
from scorpio.models.tiny import write_tiny_model

__all__ = [
    "DamagedModel",
    "ModelUnavailable",
    "embedded_names",
    "ready_directory",
    "resolve_model",
    "write_tiny_model",
]
