"""Is latency.json read back as written, and is every other file refused by name?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from predictors.latency.artifact import (
    Machine,
    ProfileFile,
    ProfileFileError,
    cached_profile_path,
    read_profile,
    this_machine,
    write_profile,
)
from scorpio.core.latency import DecodeModel, LatencyProfile, PrefillModel, StepModel

PROFILE = LatencyProfile(
    DecodeModel(1e-7, 1e-3, 0.0, 0.05),
    PrefillModel(0.06, 32.0, 4e-3),
    StepModel(0.05, 6e-3, 4e-3, 32.0, 1e-8, 1e-8, 1e-7),
    "test",
)
MACHINE = Machine("A CPU @ 3 GHz", 2, ("A GPU",))
CONTENT = ProfileFile(
    PROFILE, "smollm2", MACHINE, "0.32.0", "2026-01-01T00:00:00Z", {"steps": 3}, {"x": 1}
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "latency.json"
    write_profile(path, CONTENT)
    assert read_profile(path) == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["latency.json"]
    raw = json.loads(path.read_text())
    assert raw["schema"] == 1
    assert raw["unit"] == "s"
    assert raw["machine"]["digest"] == MACHINE.digest


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    write_profile(path, CONTENT)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_profile(path, replace(CONTENT, fit={"r2": float("nan")}))
    assert read_profile(path) == CONTENT
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a latency profile of schema 1"),
        ('{"schema": 2, "unit": "s"}', "not a latency profile of schema 1"),
        ('{"schema": 1, "unit": "ms"}', "not a latency profile of schema 1"),
        ('{"schema": 1, "unit": "s"}', "machine"),
        ('{"schema": 1, "unit": "s", "machine": []}', "missing or wrong field"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(ProfileFileError, match=reason) as failure:
        read_profile(path)
    assert str(path) in str(failure.value)


def test_negative_coefficient_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    write_profile(path, CONTENT)
    path.write_text(path.read_text().replace('"base_s": 0.05', '"base_s": -0.05'))
    with pytest.raises(ProfileFileError, match="base_s"):
        read_profile(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileFileError, match="cannot read"):
        read_profile(tmp_path / "none.json")


def test_cached_path_names_model_and_machine(tmp_path: Path) -> None:
    path = cached_profile_path(tmp_path, "org/Some Model", MACHINE)
    assert path == tmp_path / "profiles" / f"Some-Model-{MACHINE.digest}.json"
    other = cached_profile_path(tmp_path, "org/Some Model", replace(MACHINE, cores=4))
    assert other != path


def test_two_directories_of_one_name_do_not_share_a_profile(tmp_path: Path) -> None:
    paths = set()
    for parent in ("a", "b"):
        directory = tmp_path / parent / "model"
        directory.mkdir(parents=True)
        paths.add(cached_profile_path(tmp_path, str(directory), MACHINE))
    assert len(paths) == 2


def test_this_machine_is_stable() -> None:
    assert this_machine() == this_machine()
    assert this_machine().cores >= 1
    assert this_machine().cpu
