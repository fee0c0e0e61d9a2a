"""Which length models come with this package? By name, their digests pinned here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from predictors.length.artifact import load_model
from predictors.length.model import LengthModel

SHIPPED: Final[Mapping[str, str]] = {
    "smollm2": "2497c9405f6e10a21988640d9c9d8ccceff076a88819767957d5616be6774686",
}
_HERE: Final = Path(__file__).parent / "models"


def open_model(name: str) -> LengthModel:
    """A model that comes with this package, or the one in a directory (`./smollm2` is a directory).

    Raises:
        LengthArtifactError: there is none, or it is not the one it should be.
    """
    digest = SHIPPED.get(name)
    return load_model(Path(name) if digest is None else _HERE / name, digest)
