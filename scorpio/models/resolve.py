"""What does vLLM get for the model name the user typed?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scorpio.models.cache import models_dir
from scorpio.models.publish import Build, Say, ensure_published, is_intact
from scorpio.models.smollm2 import build_smollm2
from scorpio.models.tiny import write_tiny_model


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model we can make. Raise the number in `folder` when what `build` writes changes."""

    folder: str
    build: Build


def _build_tiny(out_dir: Path, say: Say) -> Mapping[str, str]:
    write_tiny_model(out_dir, seed=0)
    return {"generator": "scorpio.models.tiny", "seed": "0"}


_EMBEDDED = {
    "smollm2": EmbeddedModel("smollm2-135m-instruct-f32-1", build_smollm2),
    "tiny": EmbeddedModel("tiny-seed0-2", _build_tiny),
}


def say_on_stderr(line: str) -> None:
    """Progress for people; stdout stays for the answer."""
    print(f"model: {line}", file=sys.stderr, flush=True)


def embedded_names() -> tuple[str, ...]:
    """Names that need no model of the user's own."""
    return tuple(_EMBEDDED)


def ready_directory(name: str) -> Path | None:
    """The directory of an embedded model that is there and intact; nothing is fetched or built."""
    directory = models_dir() / _EMBEDDED[name].folder
    return directory if is_intact(directory) else None


def resolve_model(name: str, say: Say = say_on_stderr) -> Path | str:
    """A ready directory for an embedded name (made on first use); anything else unchanged.

    A directory of the user's called `tiny` is reached as `./tiny`. Raises ModelUnavailable.
    """
    model = _EMBEDDED.get(name)
    return (
        name if model is None else ensure_published(models_dir() / model.folder, model.build, say)
    )
