"""Is half a model ever seen?"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from scorpio.models.errors import ModelUnavailable
from scorpio.models.manifest import check_manifest
from scorpio.models.publish import Say, ensure_published


class Builder:
    """Counts how often it is called; fails half-way when told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, out_dir: Path, say: Say) -> Mapping[str, str]:
        self.calls += 1
        (out_dir / "config.json").write_text("{}")
        (out_dir.parent / "download.whl").write_bytes(b"scratch")
        if self.error is not None:
            raise self.error
        (out_dir / "model.safetensors").write_bytes(b"weights")
        return {"made": "here"}


def _quiet(line: str) -> None:
    pass


def _leftovers(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if ".building-" in path.name]


def test_built_once_then_used(tmp_path: Path) -> None:
    build, target = Builder(), tmp_path / "models" / "m"
    assert ensure_published(target, build, _quiet) == target
    assert ensure_published(target, build, _quiet) == target
    assert build.calls == 1
    check_manifest(target, full=True)
    assert not (target / "download.whl").exists()
    assert _leftovers(target.parent) == []


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "m"
    with pytest.raises(type(error)):
        ensure_published(target, Builder(error), _quiet)
    assert not target.exists()
    assert _leftovers(tmp_path) == []
    ensure_published(target, Builder(), _quiet)
    check_manifest(target, full=True)


def test_a_killed_builder_s_scratch_is_swept_and_never_used(tmp_path: Path) -> None:
    target = tmp_path / "m"
    half = tmp_path / ".m.building-dead" / "model"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"wei")
    ensure_published(target, Builder(), _quiet)
    assert (target / "model.safetensors").read_bytes() == b"weights"
    assert _leftovers(tmp_path) == []


def test_a_half_written_target_is_replaced_not_used(tmp_path: Path) -> None:
    target, said = tmp_path / "m", list[str]()
    ensure_published(target, Builder(), _quiet)
    (target / "model.safetensors").write_bytes(b"wei")
    ensure_published(target, Builder(), said.append)
    assert (target / "model.safetensors").read_bytes() == b"weights"
    assert any("damaged" in line for line in said)


def test_a_failed_repair_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "note.txt").write_text("the user's own")
    with pytest.raises(RuntimeError, match="no network"):
        ensure_published(target, Builder(RuntimeError("no network")), _quiet)
    assert (target / "note.txt").read_text() == "the user's own"


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ModelUnavailable, match="set SCORPIO_CACHE"):
        ensure_published(tmp_path / "file" / "m", Builder(), _quiet)


def _slow_build(out_dir: Path, say: Say) -> Mapping[str, str]:
    with (out_dir.parents[1] / "calls").open("a") as calls:
        calls.write("x")
    time.sleep(0.3)
    (out_dir / "model.safetensors").write_bytes(b"weights")
    return {}


def _ensure(target: Path) -> None:
    ensure_published(target, _slow_build, _quiet)


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_ensure, args=(tmp_path / "m",)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "calls").read_text() == "x"
