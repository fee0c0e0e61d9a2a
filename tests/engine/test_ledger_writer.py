"""Is the ledger bounded, on disk and in memory, and whole after anything that a disk can do?"""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scorpio import files
from scorpio.engine.ledger import writer as module
from scorpio.engine.ledger.writer import LedgerWriter

LINE = '{"n":%04d}\n'


def line(number: int) -> Callable[[], str]:
    return lambda: LINE % number


def put(writer: LedgerWriter, *numbers: int) -> None:
    for number in numbers:
        writer.put(line(number))
    writer.flush()


def numbers(*paths: Path) -> list[int]:
    return [int(text[5:9]) for path in paths for text in path.read_text().splitlines()]


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sleeps: a test says when is written."""
    monkeypatch.setattr(module, "PERIOD_S", 3600.0)


@pytest.mark.usefixtures("at_rest")
def test_two_files_bounded_together(tmp_path: Path) -> None:
    size = len(LINE % 0)
    writer = LedgerWriter(str(tmp_path), 0, 20 * size)
    new, old = tmp_path / "ledger.jsonl", tmp_path / "ledger.old.jsonl"
    for number in range(100):
        put(writer, number)
        assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 20 * size
    assert sorted(f.name for f in tmp_path.iterdir()) == [new.name, old.name]
    assert numbers(old, new) == list(range(80, 100))
    assert [f.stat().st_mode & 0o777 for f in (old, new)] == [0o600, 0o600]
    assert (writer.written, writer.dropped) == (100, 0)
    writer = LedgerWriter(str(tmp_path), 0, 20 * size)  # a restart goes on
    put(writer, *range(100, 105))
    assert numbers(old, new) == list(range(90, 105))
    writer.put(lambda: "x" * 11 * size)  # longer than a file: it would push all others out
    writer.flush()
    assert writer.dropped == 1
    writer.close()


@pytest.mark.usefixtures("at_rest")
def test_engines_of_one_server_have_files_of_their_own(tmp_path: Path) -> None:
    for engine in (0, 1):
        writer = LedgerWriter(str(tmp_path), engine, 40)
        put(writer, *range(engine, engine + 3))
        writer.close()
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        *("ledger-1.jsonl", "ledger-1.old.jsonl", "ledger.jsonl", "ledger.old.jsonl")
    ]
    assert numbers(tmp_path / "ledger-1.jsonl") == [3]


@pytest.mark.usefixtures("at_rest")
def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUEUED", 10)
    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    for number in range(25):
        writer.put(line(number))
    assert writer.dropped == 15
    writer.close()
    assert numbers(tmp_path / "ledger.jsonl") == list(range(10))
    writer.put(line(99))
    assert writer.dropped == 16


@pytest.mark.usefixtures("at_rest")
def test_a_line_that_cannot_be_made_costs_itself_alone(tmp_path: Path) -> None:
    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    writer.put(line(1))
    writer.put(lambda: str(1 // 0))
    writer.put(line(2))
    writer.close()
    assert numbers(tmp_path / "ledger.jsonl") == [1, 2]
    assert (writer.written, writer.dropped) == (2, 1)


@pytest.mark.usefixtures("at_rest")
def test_a_disk_that_is_gone_for_a_while(tmp_path: Path) -> None:
    home = tmp_path / "run"
    home.mkdir()
    writer = LedgerWriter(str(home), 0, 1 << 20)
    put(writer, 1)
    os.rename(home, tmp_path / "aside")
    put(writer, 2, 3)
    assert writer.dropped == 2
    os.rename(tmp_path / "aside", home)
    put(writer, 4)
    (home / "ledger.jsonl").unlink()  # an operator takes it away
    put(writer, 5)
    writer.close()
    assert numbers(home / "ledger.jsonl") == [5]
    assert (writer.written, writer.dropped) == (3, 2)


@pytest.mark.usefixtures("at_rest")
def test_after_a_torn_line_a_new_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text((LINE % 1) + '{"half')
    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    put(writer, 2, 3)
    writer.close()
    assert path.read_text().splitlines() == ['{"n":0001}', '{"half', '{"n":0002}', '{"n":0003}']


@pytest.mark.usefixtures("at_rest")
def test_a_disk_that_takes_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A file on a disk with four bytes left."""

        def __init__(self, path: Path) -> None:
            self._file = files.append_private(path)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def write(self, content: bytes) -> int:
            return self._file.write(content[:4])

    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    put(writer, 1)
    with monkeypatch.context() as full:
        full.setattr(module, "append_private", Full)
        put(writer, 2, 3)
    put(writer, 4)
    writer.close()
    assert (writer.written, writer.dropped) == (2, 2)
    torn = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert torn == ['{"n":0001}', '{"n"', '{"n":0004}']


@pytest.mark.usefixtures("at_rest")
def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "precious")
    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    put(writer, 1)
    assert writer.dropped == 1
    assert (tmp_path / "precious").read_text() == ""


def test_the_thread_writes_by_itself_and_ends_with_its_writer(tmp_path: Path) -> None:
    writer = LedgerWriter(str(tmp_path), 0, 1 << 20)
    for number in range(100):
        writer.put(line(number))
    end_s = time.monotonic() + 60.0
    while writer.written < 100 and time.monotonic() < end_s:
        time.sleep(0.02)
    assert numbers(tmp_path / "ledger.jsonl") == list(range(100))
    thread = writer._thread
    assert thread is not None
    assert thread.daemon
    del writer
    gc.collect()
    thread.join(60.0)
    assert not thread.is_alive()
    shutil.rmtree(tmp_path)
    assert threading.main_thread().is_alive()
