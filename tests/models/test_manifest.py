"""Is every way a model directory can be damaged noticed, and named?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scorpio.models.errors import DamagedModel
from scorpio.models.manifest import MANIFEST_NAME, check_manifest, write_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    write_manifest(tmp_path, {"wheel": "w==1"})
    return tmp_path


def _truncate(model: Path) -> None:
    (model / "model.safetensors").write_bytes(bytes(999))


def _remove(model: Path) -> None:
    (model / "config.json").unlink()


def _add(model: Path) -> None:
    (model / "model-00002.safetensors").write_bytes(b"x")


def _drop_manifest(model: Path) -> None:
    (model / MANIFEST_NAME).unlink()


def _cut_manifest(model: Path) -> None:
    path = model / MANIFEST_NAME
    path.write_text(path.read_text()[:40])


def _other_schema(model: Path) -> None:
    path = model / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


def _list_instead(model: Path) -> None:
    (model / MANIFEST_NAME).write_text("[]")


def test_an_intact_directory_passes_both_checks(model: Path) -> None:
    check_manifest(model)
    check_manifest(model, full=True)
    assert json.loads((model / MANIFEST_NAME).read_text())["source"] == {"wheel": "w==1"}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "999 bytes, the manifest says 1000"),
        (_remove, r"config\.json is missing"),
        (_add, r"model-00002\.safetensors is not in the manifest"),
        (_drop_manifest, "no manifest"),
        (_cut_manifest, "not a manifest"),
        (_other_schema, "schema 99"),
        (_list_instead, "not a manifest"),
    ],
)
def test_damage_is_named(model: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(model)
    with pytest.raises(DamagedModel, match=says):
        check_manifest(model)


def test_a_changed_byte_needs_the_full_check(model: Path) -> None:
    (model / "model.safetensors").write_bytes(bytes(999) + b"\1")
    check_manifest(model)
    with pytest.raises(DamagedModel, match="SHA-256"):
        check_manifest(model, full=True)
