"""Which length predictor does `scorpio serve` take?"""

from __future__ import annotations

from pathlib import Path

import pytest

from predictors.length import shipped
from predictors.length.artifact import LengthArtifactError
from scorpio.server.launch.serve import _length


def chosen(name: str | None, model: str) -> dict[str, str]:
    said: list[str] = []
    found = _length(name, model, said.append)
    assert bool(said) == bool(found)  # it says what it uses
    return found


def test_choices() -> None:
    assert chosen(None, "smollm2") == {"length_model": "smollm2"}
    assert chosen(None, "tiny") == {}
    assert chosen("none", "smollm2") == {}
    assert chosen("smollm2", "tiny") == {"length_model": "smollm2"}
    directory = Path(shipped.__file__).parent / "models" / "smollm2"
    assert chosen(str(directory), "tiny") == {"length_model": str(directory)}
    with pytest.raises(LengthArtifactError, match="train it again"):
        chosen("/no/such/model", "tiny")
