"""Does a model name lead to the right files?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.models import embedded_names, ready_directory, resolve_model
from scorpio.models.__main__ import main


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCORPIO_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "./tiny", "/models/smollm2", "Tiny"])
def test_other_names_are_left_to_vllm(name: str, own_cache: Path) -> None:
    assert resolve_model(name) == name
    assert list(own_cache.iterdir()) == []


def test_embedded_models_are_made_on_first_use(own_cache: Path) -> None:
    assert ready_directory("tiny") is None
    directory = resolve_model("tiny")
    assert isinstance(directory, Path)
    assert directory.is_relative_to(own_cache)
    assert ready_directory("tiny") == directory
    assert embedded_names() == ("smollm2", "tiny")


def test_command_prints_only_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--if-ready"]) == 1
    assert main(["tiny", "--verify"]) == 0
    out = capsys.readouterr().out
    assert Path(out.strip()).is_dir()
    assert main(["tiny", "--if-ready"]) == 0


def test_command_names_a_changed_byte(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tiny"])
    weights = Path(capsys.readouterr().out.strip()) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main(["tiny", "--verify"]) == 1
    assert "SHA-256" in capsys.readouterr().err
