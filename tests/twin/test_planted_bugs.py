"""Would the checks notice? Schedulers with one bug each; every bug must be caught by its number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scorpio.engine.virtual.requests import Scheduler
from scorpio.twin.engine.ledger import InvariantViolation
from scorpio.twin.engine.loop import TwinLoop, TwinStuckError
from tests.simulation.planted.in_vllm import (
    BUGS,
    AbortKeepsRequest,
    HoldsPrefillChunk,
    NeverAdmits,
)
from tests.twin.driving import SMALL, arrival, drive

LOAD = [arrival(i, at_s=0.004 * i, prompt=30, output=12) for i in range(6)]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("bug", "number"), BUGS, ids=[b.__name__ for b, _ in BUGS])
def test_bug_is_caught(bug: type[Scheduler], number: str, depth: Any) -> None:
    spec = replace(SMALL, pipeline_depth=depth)
    with pytest.raises(InvariantViolation, match=f"^{number}"):
        drive(LOAD, spec, scheduler_cls=bug)


def test_same_load_without_a_bug_passes() -> None:
    assert isinstance(drive(LOAD), TwinLoop)


def test_held_prefill_chunk_is_caught() -> None:
    load = [arrival(0, prompt=20, output=60), arrival(1, prompt=300)]
    with pytest.raises(InvariantViolation, match=r"^12:"):
        drive(load, scheduler_cls=HoldsPrefillChunk)


def test_abort_that_frees_nothing_is_caught() -> None:
    with pytest.raises(InvariantViolation, match=r"^25:"):
        drive([arrival(0, abort_s=0.03)], scheduler_cls=AbortKeepsRequest)


def test_lock_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorpio.twin.engine.loop.MAX_IDLE_S", 2.0)
    with pytest.raises(TwinStuckError, match="1 requests alive"):
        drive([arrival(0)], scheduler_cls=NeverAdmits)


def test_bounded_waiting() -> None:
    spec = replace(SMALL, max_num_seqs=1)
    load = [arrival(i, output=30) for i in range(3)]
    drive(load, spec, max_wait_s=10.0)
    with pytest.raises(InvariantViolation, match=r"^15:"):
        drive(load, spec, max_wait_s=0.5)
