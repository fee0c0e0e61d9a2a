"""Do writers of one run_dir get in each other's way?"""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from scorpio import channel

_WRITES = 50


def _write(run_dir: str, policy: str, seqs: multiprocessing.Queue[list[int]]) -> None:
    seqs.put([channel.write_control(run_dir, policy) for _ in range(_WRITES)])


def test_threads_that_switch_at_once_are_told_different_numbers(tmp_path: Path) -> None:
    seqs: list[int] = []
    start = threading.Barrier(8)

    def switch(name: str) -> None:
        start.wait()
        seqs.extend(channel.write_control(tmp_path, name) for _ in range(_WRITES))

    threads = [threading.Thread(target=switch, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 8 * _WRITES + 1))
    control = channel.read_control(tmp_path)
    assert control is not None
    assert control.seq == 8 * _WRITES


def test_so_are_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[list[int]] = context.Queue()
    processes = [
        context.Process(target=_write, args=(str(tmp_path), name, queue)) for name in ("a", "b")
    ]
    for process in processes:
        process.start()
    seqs = [seq for _ in processes for seq in queue.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(seqs) == list(range(1, 2 * _WRITES + 1))


def test_a_directory_that_is_gone_is_an_error_and_not_made_anew(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for write in (
        lambda: channel.write_status(gone, {"policy": "fcfs"}),
        lambda: channel.write_control(gone, "fcfs"),
    ):
        with pytest.raises(FileNotFoundError):
            write()
    assert not gone.exists()


def test_what_the_processes_tell_each_other_is_for_our_user_alone(tmp_path: Path) -> None:
    channel.write_status(tmp_path, {"policy": "fcfs"})
    channel.write_control(tmp_path, "fcfs")
    for name in (channel.STATUS, channel.CONTROL):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".tmp") == []
