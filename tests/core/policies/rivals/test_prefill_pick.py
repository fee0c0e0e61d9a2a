"""Does a plan of a rival say what vLLM then does? Chunks, deferrals and who may overtake."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.backlog import Job
from scorpio.core.policies.rivals.prefill_pick import Picker
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.step_fill import StepFill
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch

MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 0.0)


def view(name: str, tokens: int = 50) -> RequestView:
    return RequestView(name, int(name[1:]), 0.0, tokens, 8, Slo(9.0))


def half(slot: int, tokens: int, done: int) -> Row:
    return Row(view(f"p{slot}", tokens), slot, False, done, tokens, 0)


def decode(slot: int) -> Row:
    return Row(view(f"d{slot}"), slot, False, 50, 50, 1)


def pick(
    *jobs: Job,
    running: tuple[Row, ...] = (),
    waiting: int = 0,
    budget: int = 100,
    seats: int = 8,
    kv_free: int = 4000,
    preempt: bool = True,
    slack_s: float = math.inf,
    started: int = 0,
) -> StepPlan:
    table = WaitingTable()
    for seq in range(20, 20 + waiting):
        table.add(view(f"w{seq}"), float(seq), seq - 20 < started)
    limits = EngineLimits(seats, 256, 10_000, 16, 4096)
    seen = Snapshot(running_batch(running), table, limits, kv_free)
    rows = np.array([n for n, row in enumerate(running) if row.is_decode], dtype=np.int64)
    fill = StepFill(MODEL, math.inf, budget, len(rows), 0.0)
    return Picker(seen, fill, np.full(len(rows), slack_s), preempt).plan(jobs, 0.05)


def waits(row: int, tokens: int = 50, prefix: int = 0) -> Job:
    return Job(row, False, tokens, prefix)


def runs(row: int, tokens: int) -> Job:
    return Job(row, True, tokens, 0)


def test_the_most_important_ones_as_far_as_the_budget_goes() -> None:
    made = pick(waits(1, 60), waits(0, 30), waits(2, 20), waits(3), waiting=4)
    assert made.admit == ["w21", "w20", "w22"]
    assert made.token_budget == 100
    assert list(made.defer_prefill) == []


def test_a_step_without_any_room_still_has_a_budget() -> None:
    assert pick(waits(0), waiting=1, budget=0).token_budget == 1


def test_one_that_is_not_chosen_is_deferred() -> None:
    running = half(0, 60, 10), decode(1), half(2, 90, 0)
    made = pick(runs(2, 90), runs(0, 50), running=running)
    assert list(made.defer_prefill) == [0]
    assert made.token_budget == 91


def test_the_last_one_may_have_a_part_when_none_chosen_stands_behind_it() -> None:
    running = half(0, 60, 0), half(1, 90, 0)
    # Row 1 in part, behind row 0: vLLM serves row 0 first.
    assert list(pick(runs(0, 60), runs(1, 90), running=running).defer_prefill) == []
    # Row 0 in part would take the tokens of row 1.
    made = pick(runs(1, 90), runs(0, 60), running=running)
    assert list(made.defer_prefill) == [0]
    assert made.token_budget == 90
    # Nor beside one that starts.
    made = pick(waits(0, 60), runs(0, 60), running=running[:1], waiting=1)
    assert list(made.defer_prefill) == [0]


@pytest.mark.parametrize(("slack_s", "deferred"), [(0.05, []), (0.049, [0])])
def test_decodes_behind_a_part_must_have_the_time_to_sit_out(
    slack_s: float, deferred: list[int]
) -> None:
    running = half(0, 200, 0), decode(1)
    made = pick(runs(0, 200), running=running, slack_s=slack_s)
    assert list(made.defer_prefill) == deferred


def test_decodes_before_it_lose_nothing() -> None:
    running = decode(0), half(1, 200, 0)
    assert list(pick(runs(1, 200), running=running, slack_s=0.0).defer_prefill) == []


def test_the_engine_does_something() -> None:
    """All that runs is an unfinished prefill for which there is no room, and none starts."""
    made = pick(runs(0, 60), running=(half(0, 60, 0),), budget=0)
    assert list(made.defer_prefill) == []


@pytest.mark.parametrize(("seats", "admit"), [(2, ["w20"]), (1, []), (3, ["w20", "w21"])])
def test_one_that_starts_needs_a_seat(seats: int, admit: list[str]) -> None:
    made = pick(waits(0, 20), waits(1, 20), running=(decode(0),), waiting=2, seats=seats)
    assert made.admit == admit


@pytest.mark.parametrize(
    ("kv_free", "preempt", "admit"),
    [(150, True, ["w20"]), (149, True, []), (4000, False, [])],  # a hundredth is kept
)
def test_one_that_overtakes_a_prefill_must_find_kv_for_all_of_its_prompt(
    kv_free: int, preempt: bool, admit: list[str]
) -> None:
    """Cached tokens included: their blocks are taken too."""
    made = pick(waits(0, 30, 20), running=(half(0, 60, 0),), waiting=1,
                kv_free=kv_free, preempt=preempt)  # fmt: skip
    assert made.admit == admit


def test_one_that_starts_takes_kv_from_the_next() -> None:
    jobs = waits(0, 20, 10), waits(1, 20)
    running = (half(0, 60, 0),)
    assert pick(*jobs, running=running, waiting=2, kv_free=150).admit == ["w20", "w21"]
    assert pick(*jobs, running=running, waiting=2, kv_free=149).admit == ["w20"]


def test_no_request_is_overtaken_when_all_prefills_are_chosen() -> None:
    made = pick(runs(0, 60), waits(0, 20), running=(half(0, 60, 0),), waiting=1, preempt=False)
    assert made.admit == ["w20"]


def test_preempted_ones_are_not_named() -> None:
    made = pick(waits(0, 20), waits(1, 20), waiting=2, started=1)
    assert made.admit == ["w21"]
