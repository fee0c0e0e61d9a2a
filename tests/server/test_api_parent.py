"""The parent of several API processes: what does it hand on, and when does it end? Over processes
that only listen to signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scorpio.server.early_signals import signals_may_come
from scorpio.server.launch import several
from scorpio.server.launch.several import METRICS_VARIABLE, Parent
from scorpio.server.vllm_api import EngineDiedError, Processes


def listen(notes: str, patience_s: float) -> None:
    """An API process: notes what it hears; ends `patience_s` after the first SIGTERM, or at the
    second."""
    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        heard.append(number)
        with Path(notes).open("a") as file:
            file.write(f"{signal.Signals(number).name}\n")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, hear)
    Path(notes).touch()
    end_s = float("inf")
    while heard.count(signal.SIGTERM) < 2 and time.monotonic() < end_s:
        if signal.SIGTERM in heard and end_s == float("inf"):
            end_s = time.monotonic() + patience_s
        time.sleep(0.01)


class Family:
    """Two of them, and an engine."""

    def __init__(self, folder: Path, patience_s: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.notes = [folder / f"api-{i}" for i in range(2)]
        self.api: list[Any] = [
            spawn.Process(target=listen, args=(str(note), patience_s)) for note in self.notes
        ]
        self.engine: Any = spawn.Process(target=time.sleep, args=(600,), name="EngineCore")
        for process in (*self.api, self.engine):
            process.start()
        while not all(note.exists() for note in self.notes):
            time.sleep(0.01)
        self.parent = Parent(Processes(self.api, [self.engine]))

    def heard(self) -> list[list[str]]:
        return [note.read_text().split() for note in self.notes]

    def later(self, *acts: Callable[[], object]) -> None:
        """In this order, while the parent waits."""

        def do() -> None:
            for act in acts:
                time.sleep(0.3)
                act()

        threading.Thread(target=do, daemon=True).start()


def tell(number: signal.Signals) -> Callable[[], None]:
    """The parent, whose signals are the main thread's."""
    main = threading.main_thread().ident
    assert main is not None
    return lambda: signal.pthread_kill(main, number)


@pytest.fixture
def family(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Family]:
    made = Family(tmp_path, getattr(request, "param", 0.2))
    try:
        yield made
    finally:
        for process in (*made.api, made.engine):
            process.kill()
            process.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_it_goes_to_all(family: Family, number: signal.Signals) -> None:
    with family.parent.taking_signals(reloads=False):
        family.later(tell(number))
        family.parent.wait()
    assert family.heard() == [["SIGTERM"], ["SIGTERM"]]
    assert family.engine.is_alive()  # it is ended when no request is left


@pytest.mark.parametrize("family", [600.0], indirect=True)
def test_a_second_one_ends_their_patience(family: Family) -> None:
    with family.parent.taking_signals(reloads=False):
        family.later(tell(signal.SIGTERM), tell(signal.SIGTERM))
        family.parent.wait()
    assert family.heard() == [["SIGTERM"] * 2] * 2


def test_an_act_goes_to_one(family: Family) -> None:
    with family.parent.taking_signals(reloads=True):
        family.later(tell(signal.SIGHUP), tell(signal.SIGUSR2), tell(signal.SIGTERM))
        family.parent.wait()
    assert family.heard() == [["SIGHUP", "SIGUSR2", "SIGTERM"], ["SIGTERM"]]


def test_without_an_slo_file_a_hang_up_is_not_taken(family: Family) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with family.parent.taking_signals(reloads=False):
        assert signal.getsignal(signal.SIGHUP) == before
    assert signal.getsignal(signal.SIGTERM) != family.parent._stop


@pytest.mark.parametrize("family", [600.0], indirect=True)
@pytest.mark.parametrize("who", ["an API process", "the engine"])
def test_when_one_dies_the_others_end(family: Family, who: str) -> None:
    victim = family.engine if who == "the engine" else family.api[0]
    family.later(victim.kill)
    with pytest.raises(EngineDiedError, match=victim.name):
        family.parent.wait()
    assert not family.api[1].is_alive()
    assert family.heard()[1] == ["SIGTERM"] * 2


@pytest.mark.parametrize("family", [600.0], indirect=True)
@pytest.mark.parametrize("who", ["an API process", "the engine", "all API processes"])
def test_one_that_died_before_it_waits_ends_it_too(family: Family, who: str) -> None:
    victims = {"an API process": family.api[:1], "the engine": [family.engine]}.get(who, family.api)
    for victim in victims:
        victim.kill()
        victim.join()
    with pytest.raises(EngineDiedError, match=victims[0].name):
        family.parent.wait()
    assert not any(process.is_alive() for process in family.api)


@pytest.mark.parametrize("family", [1.0], indirect=True)
def test_one_that_dies_of_what_ends_it_leaves_the_others(family: Family) -> None:
    with family.parent.taking_signals(reloads=False):
        family.later(tell(signal.SIGTERM), family.api[0].kill)
        family.parent.wait()
    assert [process.exitcode for process in family.api] == [-signal.SIGKILL, 0]


def test_one_that_was_told_alone_leaves_the_others(family: Family) -> None:
    with family.parent.taking_signals(reloads=False):
        family.later(family.api[0].terminate, tell(signal.SIGTERM))
        family.parent.wait()
    assert family.heard()[1] == ["SIGTERM"]


def die_of_the_engine(*_: Any) -> None:
    raise EngineDiedError("as the middleware has said")


def hear(notes: str) -> Callable[..., None]:
    def started(*_: Any) -> None:
        heard: list[int] = []
        Path(notes).touch()
        while not Path(notes).read_text():
            time.sleep(0.01)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, lambda number, _: heard.append(number))
        signals_may_come()
        Path(notes).write_text(" ".join(signal.Signals(number).name for number in sorted(heard)))

    return started


def run_as(main: str, *given: str) -> None:
    """An API process in which vLLM's part is another one."""
    several.__dict__["api_process_main"] = {"dies": die_of_the_engine, "hears": hear(*given)}[main]
    several.run()


def test_an_engine_that_is_no_child_of_the_parent_is_missed_too() -> None:
    """Of Ray, or on another node: API processes alone notice."""
    spawn = multiprocessing.get_context("spawn")
    api: list[Any] = [spawn.Process(target=run_as, args=("dies", ""), name="ApiServer_0")]
    for process in api:
        process.start()
    with pytest.raises(EngineDiedError, match="ApiServer_0"):
        Parent(Processes(api, [])).wait()


def test_an_act_that_comes_during_the_start_waits(tmp_path: Path) -> None:
    """The parent hands it on as soon as engines are up."""
    notes = tmp_path / "notes"
    process = multiprocessing.get_context("spawn").Process(
        target=run_as, args=("hears", str(notes))
    )
    process.start()
    while not notes.exists():
        time.sleep(0.01)
    assert process.pid is not None
    for number in (signal.SIGHUP, signal.SIGUSR2):
        os.kill(process.pid, number)
    time.sleep(0.1)
    notes.write_text("go on")
    process.join(20)
    assert process.exitcode == 0
    assert notes.read_text() == "SIGHUP SIGUSR2"


def test_a_place_where_they_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS_VARIABLE, raising=False)
    stale = tmp_path / "metrics" / "counter_1.db"
    stale.parent.mkdir()
    stale.touch()
    with several._metrics_dir(tmp_path):
        assert os.environ[METRICS_VARIABLE] == str(tmp_path / "metrics")
        assert not stale.exists()
    assert METRICS_VARIABLE not in os.environ
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(METRICS_VARIABLE, "/of/the/user")
    with several._metrics_dir(tmp_path):
        assert os.environ[METRICS_VARIABLE] == "/of/the/user"
    assert os.environ[METRICS_VARIABLE] == "/of/the/user"
