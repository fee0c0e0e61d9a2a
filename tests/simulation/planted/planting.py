"""How is a bug planted, and how soon is it seen?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from scorpio.engine.virtual.requests import Scheduler
from tests.simulation.case import Case, Outcome, run_case
from tests.simulation.pairs import broken_pair
from tests.simulation.scheduler import WatchedScheduler

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """plant: puts it into this process, until the patch is undone. scheduler: a class that has it
    instead. about: the kind of fault it stands for. pairs: seen only by runs that must agree."""

    name: str
    about: str
    plant: Plant | None = None
    scheduler: type[Scheduler] = WatchedScheduler
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Catch:
    """Where it was seen; seed -1: not at all."""

    seed: int
    what: str
    requests: int


def bug_class(mixin: type[Scheduler]) -> type[Scheduler]:
    """Our scheduler on top of a vLLM that has this bug."""
    return type(mixin.__name__, (mixin, WatchedScheduler), {})


def catch(bug: Bug, seeds: Iterable[int], most_requests: int = 1 << 60) -> Catch:
    """Run the seeds in order until one breaks a promise."""
    requests = 0
    with pytest.MonkeyPatch.context() as patch:
        if bug.plant is not None:
            bug.plant(patch)
        for seed in seeds:
            outcome = _run(bug, seed)
            requests += outcome.requests
            if outcome.violation:
                return Catch(seed, outcome.violation, requests)
            if requests >= most_requests:
                break
    return Catch(-1, "", requests)


def _run(bug: Bug, seed: int) -> Outcome:
    outcome = run_case(Case(seed), bug.scheduler)
    if bug.pairs and not outcome.violation:
        outcome.violation = broken_pair(Case(seed), outcome)
    return outcome
