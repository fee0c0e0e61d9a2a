"""Is what we ship whole, pinned, small, and better than knowing nothing?"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from predictors.length import shipped
from predictors.length.artifact import LengthArtifactError
from predictors.length.ladder import LengthLadder, Source
from predictors.length.request import LengthRequest
from predictors.length.shipped import SHIPPED, open_model
from scorpio.models import embedded_names

MOST_BYTES = 3_000_000


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_it_loads_and_reads(name: str) -> None:
    assert name in embedded_names()  # `scorpio serve NAME` takes it by default
    model = open_model(name)
    assert model.digest == SHIPPED[name]
    ladder = LengthLadder(model)
    short = ladder.predict(LengthRequest("What is 2 + 2? Answer in one word.", 40, 512))
    long = ladder.predict(LengthRequest("Write a long, detailed essay about rivers.", 40, 512))
    assert short.source is long.source is Source.TRAINED
    assert short.mean_tokens < long.mean_tokens
    files = (Path(shipped.__file__).parent / "models" / name).iterdir()
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


def test_another_model_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shipped.__file__).parent / "models" / "smollm2"
    shutil.copytree(source, tmp_path / "smollm2")
    monkeypatch.setattr(shipped, "_HERE", tmp_path)
    monkeypatch.setattr(shipped, "SHIPPED", {"smollm2": "0" * 64})
    with pytest.raises(LengthArtifactError, match="expected 000"):
        open_model("smollm2")
    assert np.isfinite(open_model(str(source)).scorer.table).all()  # a directory of one's own
    with pytest.raises(LengthArtifactError, match="cannot read"):
        open_model(str(tmp_path / "nowhere"))


def test_a_prompt_without_text_is_left_to_the_histograms() -> None:
    ladder = LengthLadder(open_model("smollm2"))
    found = ladder.predict(LengthRequest("", 40, 512))
    assert (found.source, found.trained_z) == (Source.MAX_TOKENS, None)
