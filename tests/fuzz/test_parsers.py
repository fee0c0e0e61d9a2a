"""Each parser of ours: a result or its one documented error, whatever it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.parsers import fuzz_parser
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

pytest.importorskip("atheris", reason="has no wheel for this platform")
RUNS = int(os.environ.get("SCORPIO_FUZZ_RUNS", "2000"))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_input_raises_anything_else(name: str, tmp_path: Path) -> None:
    done = fuzz_parser(name, RUNS, seed=1, directory=tmp_path)
    assert done.passed, done.output
    assert done.runs > 0


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_are_valid_inputs(name: str) -> None:
    run = TARGETS[name].load()
    for content in seeds(name):
        run(content)
