"""Who prefills in a step, and how much? Turns and budgets of a few tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.jobs import Turn
from scorpio.core.policies.scorpio.packing import Packed, pack
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.waiting import WaitingTable
from tests.conformance.snapshots import Row, running_batch
from tests.core.policies.scorpio.step_scenes import step_of

MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 0.0, 0.0)  # 1 ms a token


def view(name: str, seq: int, tokens: int, tpot_s: float = math.inf, **facts: int) -> RequestView:
    return RequestView(name, seq, 0.0, tokens, 8, Slo(9.0, tpot_s), **facts)  # type: ignore[arg-type]


def half(slot: int, tokens: int, done: int) -> Row:
    return Row(view(f"p{slot}", slot, tokens), slot, False, done, tokens, 0)


class Step:
    """An engine of `seats`, and what it packs from turns."""

    def __init__(
        self,
        *waiting: RequestView,
        running: tuple[Row, ...] = (),
        seats: int = 8,
        kv_free: int = 4000,
        started: int = 0,
        computing: dict[int, str] | None = None,
    ) -> None:
        table = WaitingTable()
        for place, one in enumerate(waiting):
            table.add(one, float(one.seq), place < started)
        limits = EngineLimits(seats, 100, 8000, 16, 4096)
        self.seen = Snapshot(
            running_batch(running), table, limits, kv_free, computing=computing or {}
        )
        self.step = step_of(MODEL, self.seen, 0.0, 8.0, tightest_s=math.inf)
        self.batch = Admission(self.step)
        self.limit_s = math.inf
        self.asked = 0

    def pack(self, *turns: Turn) -> Packed:
        return pack(self.step, self._counted(turns), self.limit_s, self.batch)

    def _counted(self, turns: tuple[Turn, ...]) -> Iterator[Turn]:
        for turn in turns:
            self.asked += 1
            yield turn


def names(packed: Packed) -> list[str]:
    return [one.request_id for one in packed.joining]


A, B, C = view("a", 11, 60), view("b", 12, 30), view("c", 13, 40)


def test_as_much_as_fits_and_the_last_one_in_part() -> None:
    step = Step(A, B, C)
    packed = step.pack(Turn(0, 60, 0), Turn(1, 30, 0), Turn(2, 40, 5))
    assert names(packed) == ["a", "b", "c"]
    assert (packed.left, packed.prefix) == (30, 15)
    assert packed.fill.tokens == 100
    assert packed.unbound == []


def test_what_fits_whole_leaves_nothing() -> None:
    packed = Step(A, B).pack(Turn(0, 60, 0), Turn(1, 30, 0))
    assert packed.left == 0


def test_nothing_more_is_taken_when_the_step_is_full() -> None:
    step = Step(A, B, C)
    packed = step.pack(Turn(0, 60, 0), Turn(2, 40, 0), Turn(1, 30, 0))
    assert names(packed) == ["a", "c"]
    assert packed.fill.tokens == 100


def test_a_step_that_is_too_short_for_anything_still_takes_a_token() -> None:
    step = Step(A, B)
    step.limit_s = 0.0
    packed = step.pack(Turn(0, 60, 0), Turn(1, 30, 0))
    assert names(packed) == ["a"]
    assert (packed.fill.tokens, packed.left, packed.prefix) == (1, 59, 1)


def test_a_running_prefill_in_part_yields_to_those_that_start() -> None:
    """vLLM serves it first: it would take their tokens."""
    turns = Turn(0, 60, 0), Turn(0, 50, 10, running=True)
    packed = Step(A, running=(half(0, 60, 10),)).pack(*turns)
    assert names(packed) == ["a"]
    assert packed.order == []
    packed = Step(A, running=(half(0, 50, 10),)).pack(Turn(0, 60, 0), Turn(0, 40, 10, running=True))
    assert packed.order == [0]  # it fits whole
    packed = Step(running=(half(0, 200, 10),)).pack(Turn(0, 190, 10, running=True))
    assert packed.order == [0]  # none starts
    assert (packed.left, packed.prefix) == (90, 110)


def test_running_prefills_in_the_order_of_their_turns() -> None:
    running = half(0, 40, 10), half(1, 50, 20)
    packed = Step(running=running).pack(
        Turn(1, 30, 20, running=True), Turn(0, 30, 10, running=True)
    )
    assert packed.order == [1, 0]


def test_preempted_ones_join_by_themselves() -> None:
    step = Step(A, B, started=1)
    packed = step.pack(Turn(0, 60, 0), Turn(1, 30, 0))
    assert names(packed) == ["b"]
    assert packed.fill.tokens == 90
    assert not Step(A, B, started=1, seats=1).pack(Turn(0, 60, 0), Turn(1, 30, 0)).joining


def test_one_that_may_not_join_is_passed_over() -> None:
    fast = view("fast", 10, 20, tpot_s=0.0115)  # two decodes take 12 ms
    packed = Step(A, fast).pack(Turn(1, 60, 0), Turn(0, 20, 0))
    assert names(packed) == ["a"]
    packed = Step(A, fast).pack(Turn(1, 60, 0), Turn(0, 20, 0, bound=False))
    assert names(packed) == ["a", "fast"]
    assert packed.unbound == ["fast"]


def test_it_keeps_its_kv_when_its_turn_says_so() -> None:
    long = view("long", 10, 90)
    for keeps, joined in ((False, ["a", "b"]), (True, ["a"])):
        step = Step(long, A, B, running=(half(0, 9, 0),), kv_free=100)
        # 91 blocks are free for others: 9 belong to the prefill, 60 to the one before it.
        packed = step.pack(Turn(1, 60, 0), Turn(0, 90, 0, keeps=keeps), Turn(2, 30, 0))
        assert names(packed) == joined


def test_no_waiting_one_is_looked_at_without_a_seat_but_running_prefills_are() -> None:
    running = half(0, 40, 10), Row(view("d", 1, 50), 1, False, 50, 50, 1)
    step = Step(A, B, running=running, seats=2)
    packed = step.pack(Turn(0, 60, 0), Turn(0, 30, 10, running=True), Turn(1, 30, 0))
    assert packed.order == [0]
    assert packed.joining == []
    assert step.asked == 3  # the third tells that all unfinished prefills are served
    step = Step(A, B, running=(Row(view("d", 1, 50), 0, False, 50, 50, 1),), seats=1)
    step.pack(Turn(0, 60, 0), Turn(1, 30, 0))
    assert step.asked == 1


def test_the_look_down_the_queue_is_bounded() -> None:
    fast = [view(f"f{n}", 20 + n, 10, tpot_s=0.0115) for n in range(60)]
    step = Step(*fast, A, running=(Row(view("d", 99, 50), 0, False, 50, 50, 1),))
    packed = step.pack(*(Turn(row, 10, 0) for row in range(1, 61)), Turn(0, 60, 0))
    assert packed.joining == []
    assert step.asked == 51  # fifty may be passed over


def test_time_of_those_that_stand_behind_is_counted() -> None:
    packed = Step(A, B, C).pack(
        Turn(0, 60, 0), Turn(1, 30, 0, behind=True), Turn(2, 40, 0, behind=True)
    )
    assert packed.behind_s == pytest.approx(0.040)  # 30 of b, 10 of c


# -- beginnings in common --------------------------------------------------------------------------


def test_nothing_is_computed_twice_beside_itself() -> None:
    first, second = (view(n, s, 50, shared_tokens=32, shared_id=7) for n, s in (("x", 1), ("y", 2)))
    step = Step(first, second, B)
    packed = step.pack(Turn(0, 50, 0, shared_id=7), Turn(1, 18, 32, shared_id=7), Turn(2, 30, 0))
    assert names(packed) == ["x", "b"]
    assert packed.fill.tokens == 80


def test_one_that_goes_first_after_all_computes_all_of_it() -> None:
    follower = view("y", 2, 50, shared_tokens=32, shared_id=7)
    step = Step(follower)
    packed = step.pack(Turn(0, 18, 32, shared_id=7))
    assert packed.fill.tokens == 50


def test_a_turn_is_lent_to_the_one_that_computes_the_beginning() -> None:
    running = (half(0, 60, 10),)
    follower = view("y", 2, 70, shared_tokens=48, shared_id=7)
    step = Step(follower, B, running=running, computing={7: "p0"})
    packed = step.pack(Turn(0, 22, 48, shared_id=7), Turn(0, 50, 10, running=True), Turn(1, 30, 0))
    assert packed.order == [0]
    assert names(packed) == ["b"]
    assert packed.fill.tokens == 80


def test_a_beginning_that_is_computed_no_more_is_its_own() -> None:
    decodes = (Row(view("p0", 0, 50), 0, False, 50, 50, 1),)
    follower = view("y", 2, 70, shared_tokens=48, shared_id=7)
    for computing in ({7: "p0"}, {7: "gone"}):
        step = Step(follower, running=decodes, computing=computing)
        packed = step.pack(Turn(0, 22, 48, shared_id=7))
        assert names(packed) == ["y"]
        assert packed.fill.tokens == 1 + 70  # the decode, and all of the prompt
