"""Do folders of replicas that live stay, and do those of ended ones not fill the disk?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scorpio.fleet import ended
from scorpio.fleet.ended import begin


def test_the_last_ended_ones_are_kept_and_all_that_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "KEPT", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("no replica's")
    held = {}
    for number, name in enumerate("abcdef"):
        held[name] = begin(tmp_path / name)
        (tmp_path / name / "ledger.jsonl").write_text(name)
        os.utime(tmp_path / name / ".replica.lock", (number, number))
    for name in "bcdf":
        os.close(held[name])
    # `a` has been idle for longest, and lives.
    os.close(begin(tmp_path / "new"))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "d", "e", "f", "new", "mine"}
    for name in "ae":
        os.close(held[name])


def test_a_folder_is_of_one_replica_at_a_time(tmp_path: Path) -> None:
    held = begin(tmp_path / "a")
    with pytest.raises(OSError, match="temporarily unavailable"):
        begin(tmp_path / "a")
    os.close(held)
    os.close(begin(tmp_path / "a"))
