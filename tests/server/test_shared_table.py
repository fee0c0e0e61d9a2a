"""The table that API processes of one server share: whose number is it, and who sees it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio import channel
from scorpio.server import shared as module
from scorpio.server.shared import Shared


def test_numbers_of_the_others(tmp_path: Path) -> None:
    rows = [Shared(str(tmp_path), rank, 3) for rank in range(3)]
    for row, number in zip(rows, (1.0, 20.0, 300.0), strict=True):
        assert row.others("n") == sum(r for r in (1.0, 20.0) if r < number)
        row.put("n", number)
        row.put("another", -1.0)
    assert [row.others("n") for row in rows] == [320.0, 301.0, 21.0]
    assert rows[0].each("n") == [20.0, 300.0]
    rows[1].put("n", 0.5)
    assert rows[0].each("n") == [0.5, 300.0]
    assert rows[0].each("none") == []
    assert (tmp_path / channel.SHARED).stat().st_mode & 0o077 == 0


def test_a_server_that_was_here_before_counts_for_nothing(tmp_path: Path) -> None:
    old = [Shared(str(tmp_path), rank, 2) for rank in range(2)]
    for row in old:
        row.put("n", 5.0)
        row.first("a mark")
    first, second = (Shared(str(tmp_path), rank, 2) for rank in range(2))
    assert (first.others("n"), second.others("n")) == (0.0, 0.0)
    assert second.first("a mark")


def test_a_row_of_another_server_counts_for_nothing(tmp_path: Path) -> None:
    """Its own process has not started yet."""
    old = Shared(str(tmp_path), 1, 2, server="before")
    old.put("n", 5.0)
    old.first("a mark")
    first = Shared(str(tmp_path), 0, 2)
    assert first.server == Shared().server != "before"
    assert (first.others("n"), first.first("a mark")) == (0.0, True)
    second = Shared(str(tmp_path), 1, 2)
    second.put("another", 1.0)
    second.put("n", 7.0)
    assert (first.each("n"), first.each("another")) == ([7.0], [1.0])


def test_one_process_is_alone(tmp_path: Path) -> None:
    alone = Shared(str(tmp_path))
    alone.put("n", 5.0)
    assert (alone.others("n"), alone.each("n"), alone.first("a")) == (0.0, [], True)
    assert alone.first("a")  # it remembers its own by itself
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_each_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module.logger, "warning", lambda text, *_: said.append(text))
    lost = Shared(str(tmp_path / "gone"), 0, 2)
    lost.put("n", 1.0)
    assert lost.others("n") == 0.0
    assert "each API process alone" in said[0]
    assert Shared(None, 0, 2).others("n") == 0.0


def test_names_without_end_are_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "NAMES", 3)
    first, second = (Shared(str(tmp_path), rank, 2) for rank in range(2))
    for name in range(5):
        first.put(str(name), 1.0)
    assert [second.others(str(name)) for name in range(5)] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert caplog.text.count("further tenants' limits are of each alone") == 1


def test_a_mark_is_set_once(tmp_path: Path) -> None:
    rows = [Shared(str(tmp_path), rank, 2) for rank in range(2)]
    assert [row.first("quote") for row in rows] == [True, False]
    assert rows[1].first("another")
