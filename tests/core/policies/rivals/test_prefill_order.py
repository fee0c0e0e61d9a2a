"""Whose prompt goes first under QoServe's rule? Orders by hand."""

from __future__ import annotations

import pytest

from scorpio.core.policies.rivals.backlog import Backlog, Job
from scorpio.core.policies.rivals.qoserve.prefill_order import PrefillOrder
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch

NOW_S = 10.0
ORDER = PrefillOrder(0.001, 0.008, 30.0)


@pytest.mark.parametrize(
    ("backlog_s", "alpha_s"), [(0.0, 0.001), (15.0, 0.0045), (30.0, 0.008), (90.0, 0.008)]
)
def test_alpha_rises_with_the_backlog(backlog_s: float, alpha_s: float) -> None:
    assert ORDER.alpha_s(backlog_s) == pytest.approx(alpha_s)


def test_alpha_has_its_own_low_and_high() -> None:
    assert PrefillOrder(0.5, 0.7, 2.0).alpha_s(1.0) == pytest.approx(0.6)


def prompt(name: str, tokens: int, due_s: float, cached: int = 0) -> RequestView:
    seq = int(name[1:])
    return RequestView(name, seq, NOW_S, tokens, 8, Slo(due_s - NOW_S), cached_tokens=cached)


def half(slot: int, tokens: int, done: int, due_s: float) -> Row:
    return Row(prompt(f"p{slot}", tokens, due_s), slot, False, done, tokens, 0)


def decode(slot: int) -> Row:
    return Row(prompt(f"p{slot}", 50, 99.0), slot, False, 50, 50, 1)


def jobs(
    running: tuple[Row, ...] = (),
    waiting: tuple[RequestView, ...] = (),
    started: int = 0,
    seats: int = 8,
    token_s: float = 0.001,
) -> list[Job]:
    table = WaitingTable()
    for place, view in enumerate(waiting):
        table.add(view, view.deadline_s, place < started)
    limits = EngineLimits(seats, 256, 8000, 16, 4096)
    seen = Snapshot(running_batch(running), table, limits, 8000)
    backlog = Backlog.of(seen)
    return list(backlog.jobs(ORDER.order(backlog, NOW_S, token_s)))


def test_deadlines_and_lengths_decide_together() -> None:
    """A token is worth 1.1 ms here: 1,000 of them 1.1 s of deadline."""
    waiting = prompt("w1", 1000, 15.0), prompt("w2", 100, 15.5), prompt("w3", 10, 16.5, 4)
    assert jobs(waiting=waiting) == [
        Job(1, False, 100, 0),  # 15.6
        Job(0, False, 1000, 0),  # 16.25
        Job(2, False, 6, 4),  # 16.5
    ]


def test_an_unfinished_prefill_is_one_of_them() -> None:
    running = decode(0), half(1, 500, 300, 15.3)
    waiting = prompt("w2", 10, 15.2), prompt("w3", 10, 16.0)
    assert jobs(running, waiting) == [
        Job(0, False, 10, 0),
        Job(1, True, 200, 300),
        Job(1, False, 10, 0),
    ]


def test_one_that_can_no_longer_make_it_goes_last() -> None:
    running = half(0, 5000, 0, 14.0), half(1, 100, 0, 99.0)
    waiting = prompt("w2", 3001, 13.0), prompt("w3", 3000, 13.0), prompt("w4", 10, 50.0)
    assert [(j.is_running, j.row) for j in jobs(running, waiting)] == [
        (False, 1),  # in 3 s, just in time
        (False, 2),
        (True, 1),
        (True, 0),  # relegated: unfinished prefills first
        (False, 0),
    ]


def test_preempted_ones_come_before_all() -> None:
    waiting = prompt("w1", 40, 90.0, 8), prompt("w2", 10, 12.0)
    assert jobs((decode(0),), waiting, started=1)[0] == Job(0, False, 32, 8)
    assert jobs((decode(0),), waiting, started=1)[1] == Job(1, False, 10, 0)


@pytest.mark.parametrize(("seats", "rows"), [(3, [0, 1]), (2, [0])])
def test_no_request_waiting_is_looked_at_without_a_seat(seats: int, rows: list[int]) -> None:
    waiting = prompt("w1", 40, 90.0), prompt("w2", 10, 12.0)
    found = jobs((decode(0),), waiting, started=1, seats=seats)
    assert [job.row for job in found] == rows


def test_thirty_two_prompts_a_step_and_all_unfinished_ones() -> None:
    running = tuple(half(slot, 9000, 0, 9000.0) for slot in range(3))
    waiting = tuple(prompt(f"w{n}", 10, 20.0 + n) for n in range(3, 43))
    found = jobs(running, waiting, seats=64)
    assert [job.row for job in found] == [*range(32), 0, 1, 2]
    assert [job.is_running for job in found] == [False] * 32 + [True] * 3
