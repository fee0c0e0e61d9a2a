"""Which prompts are still to be computed, in which order, and what does each cost?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.core.policies.scorpio.jobs import PrefillJobs, Turn, _between, prefill_jobs
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.snapshot import EngineLimits, Snapshot
from scorpio.core.supply import PrefillSupply
from scorpio.core.waiting import WaitingTable
from scorpio.core.work import decode_work_s, prefill_work_s
from tests.conformance.snapshots import Row, running_batch
from tests.core.policies.scorpio.step_scenes import step_of

# 10 ms a step, 1 ms a token; attention: 1 us a token and prefix; a decode's: 10 us a token.
MODEL = StepModel(0.010, 0.001, 0.001, 1e9, 0.0, 1e-6, 1e-5)
START_S, PATIENCE_S = 100.0, 60.0
NONE = np.array([], dtype=np.int64)


def ask(seq: int, tokens: int = 100, cached: int = 0, ttft_s: float = 20.0, waited_s: float = 5.0,
        on_miss: OnMiss = OnMiss.REJECT, tpot_s: float = math.inf, value: float = 1.0,
        predicted: float = math.nan) -> RequestView:  # fmt: skip
    slo = Slo(ttft_s, tpot_s, on_miss=on_miss, value=value)
    return RequestView(f"r{seq}", seq, START_S - waited_s, tokens, 512, slo, cached_tokens=cached,
                       predicted_output_tokens=predicted)  # fmt: skip


def half(slot: int, view: RequestView, done: int, output: int = 0) -> Row:
    return Row(view, slot, False, done, view.prompt_tokens, output)


def jobs(
    waiting: Sequence[RequestView], running: tuple[Row, ...] = (), started: int = 0
) -> PrefillJobs:
    table = WaitingTable()
    for place, view in enumerate(waiting):
        table.add(view, view.deadline_s, place < started)
    seen = Snapshot(running_batch(running), table, EngineLimits(8, 256, 8000, 16, 4096), 8000)
    step = step_of(MODEL, seen, START_S, options=ScorpioOptions(patience_s=PATIENCE_S))
    return prefill_jobs(step, None, lambda view: view.deadline_s)


def rows(turns: Sequence[Turn]) -> list[int]:
    return [-1 - turn.row if turn.running else turn.row for turn in turns]


def test_work_is_tokens_and_attention_to_what_lies_before() -> None:
    assert prefill_work_s(MODEL, 100.0, 0.0) == pytest.approx(0.1 + 1e-6 * 100 * 50)
    assert prefill_work_s(MODEL, 100.0, 400.0) == pytest.approx(0.1 + 1e-6 * 100 * 450)
    assert decode_work_s(MODEL, 0.0, 40.0) == pytest.approx(0.04 + 1e-5 * 40 * 20)
    assert decode_work_s(MODEL, 300.0, 40.0) == pytest.approx(0.04 + 1e-5 * 40 * 320)


def test_running_prefills_have_their_place_in_the_queue() -> None:
    waiting = ask(1, ttft_s=10.0), ask(2, ttft_s=30.0)
    running = half(0, ask(3, tokens=80, ttft_s=20.0), 30), half(1, ask(4, ttft_s=9.0), 60)
    found = jobs(waiting, running)
    assert found.row.tolist() == [1, 0, 0, 1]
    assert found.running.tolist() == [True, False, True, False]
    assert found.waiting_rows(np.array([3, 2, 1])) == [1, 0]
    assert found.tokens.tolist() == [40.0, 100.0, 50.0, 100.0]
    assert found.prefix.tolist() == [60.0, 0.0, 30.0, 0.0]
    assert found.work_s[2] == pytest.approx(0.05 + 1e-6 * 50 * 55)
    turns = list(found.turns(NONE, pay=False))
    assert [turn[:3] for turn in turns] == [(1, 40, 60), (0, 100, 0), (0, 50, 30), (1, 100, 0)]
    assert [turn.running for turn in turns] == [True, False, True, False]
    assert not any(turn.behind for turn in turns)
    assert all(turn.bound for turn in turns)


def test_a_decode_is_no_prefill() -> None:
    view = ask(1)
    running = (Row(view, 0, False, 100, 100, 3),)
    assert jobs([ask(2)], running).row.tolist() == [0]


def test_which_may_be_shed() -> None:
    kinds = [OnMiss.REJECT, OnMiss.DEGRADE, OnMiss.WAIT]
    waiting = [ask(n, ttft_s=10.0 + n, on_miss=kind) for n, kind in enumerate(kinds)]
    running = (
        half(0, ask(7, ttft_s=31.0), 50),
        half(1, ask(8, ttft_s=32.0, on_miss=OnMiss.WAIT), 50),
        half(2, ask(9, ttft_s=33.0), 50, output=1),  # preempted: its answer has begun
    )
    found = jobs([*waiting, ask(6, ttft_s=math.inf)], running)
    assert found.row.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert found.running.tolist() == [False] * 3 + [True] * 3 + [False]
    assert found.may_drop.tolist() == [True, True, False, True, False, False, False]
    assert found.rejectable.tolist()[:6] == [True, False, False, True, False, False]
    assert found.resumed.tolist() == [False] * 5 + [True, False]


def test_preempted_ones_come_first_whatever_their_deadline() -> None:
    found = jobs([ask(1, ttft_s=9.0), ask(2, ttft_s=8.0)], started=1)
    first = found.row.tolist().index(0)
    assert found.deadline_s[first] == -math.inf
    assert bool(found.resumed[first])


def test_letting_go_saves_the_prefill_and_the_answer_for_its_value() -> None:
    lengths = LengthBelief(8)
    views = ask(1, cached=20, ttft_s=10.0, predicted=40.0), ask(2, ttft_s=11.0, value=4.0)
    found = jobs([*views, ask(3, ttft_s=12.0, on_miss=OnMiss.DEGRADE)])
    cost_s = found.cost_s(MODEL, lengths)
    output = lengths.expected(found.predicted, found.most)
    assert cost_s[0] == pytest.approx(
        prefill_work_s(MODEL, 80.0, 20.0) + decode_work_s(MODEL, 100.0, float(output[0]))
    )
    assert cost_s[1] == pytest.approx(
        (prefill_work_s(MODEL, 100.0, 0.0) + decode_work_s(MODEL, 100.0, float(output[1]))) / 4.0
    )
    assert cost_s[2] == pytest.approx(prefill_work_s(MODEL, 100.0, 0.0))  # it is served later


SUPPLY = PrefillSupply(START_S, 0.1, 0.02, 0.1)


def sorted_out(*waiting: RequestView, started: int = 0) -> list[bool]:
    return jobs(waiting, started=started).sorted_out(SUPPLY).behind.tolist()


def test_one_that_cannot_be_good_stands_behind_unless_it_is_refused() -> None:
    # Due in 100 ms: 105 ms of work and a step of decodes.
    assert sorted_out(ask(1, ttft_s=5.1)) == [False]  # it will be refused
    assert sorted_out(ask(1, ttft_s=5.1, on_miss=OnMiss.WAIT)) == [True]
    assert sorted_out(ask(1, ttft_s=5.1, on_miss=OnMiss.DEGRADE)) == [True]
    # 80 ms of the coming step and, at four fifths of the time, 25 ms of later ones.
    assert sorted_out(ask(1, ttft_s=5.131, on_miss=OnMiss.WAIT)) == [True]
    assert sorted_out(ask(1, ttft_s=5.132, on_miss=OnMiss.WAIT)) == [False]
    assert sorted_out(ask(1, ttft_s=5.1, on_miss=OnMiss.WAIT), started=1) == [False]  # it goes on


def test_a_target_out_of_reach_is_a_promise_that_is_broken_on_arrival() -> None:
    alone_s = 0.011 + 100 * 1e-5
    for tpot_s, behind in ((alone_s * 0.999, True), (alone_s * 1.001, False)):
        assert sorted_out(ask(1, tpot_s=tpot_s, on_miss=OnMiss.WAIT)) == [behind]


def test_one_that_has_no_deadline_is_good_whenever_it_comes() -> None:
    assert sorted_out(ask(1, ttft_s=math.inf)) == [True]
    found = jobs([ask(1), ask(2, ttft_s=math.inf)]).sorted_out(SUPPLY)
    assert found.work_s[1] == 0.0  # and takes no time from the others
    assert found.work_s[0] > 0.1


def test_of_those_that_are_firm_the_dearest_goes_behind() -> None:
    """Work of 316 ms due in 300 ms: two of the three can be in time."""
    firm = [ask(n, tokens=t, ttft_s=5.3, on_miss=OnMiss.WAIT) for n, t in enumerate((90, 120, 91))]
    assert sorted_out(*firm) == [False, True, False]


def test_turns_of_those_behind_come_last_as_they_came() -> None:
    waiting = [
        ask(1, ttft_s=5.05, waited_s=5.0, on_miss=OnMiss.WAIT),
        ask(2, ttft_s=20.0),
        ask(3, ttft_s=math.inf, waited_s=70.0),
        ask(4, ttft_s=math.inf, waited_s=1.0),
    ]
    found = jobs(waiting).sorted_out(SUPPLY)
    assert rows(turns := list(found.turns(NONE, pay=False))) == [1, 2, 0, 3]
    assert [turn.behind for turn in turns] == [False, True, True, True]
    # One that is overdue is first when it is paid.
    assert rows(list(found.turns(NONE, pay=True))) == [2, 1, 0, 3]
    assert found.overdue_first(NONE).tolist() == [2]


def test_those_shed_are_refused_or_go_behind() -> None:
    found = jobs([ask(1, ttft_s=10.0), ask(2, ttft_s=11.0, on_miss=OnMiss.DEGRADE), ask(3)])
    turns = list(found.turns(np.array([0, 1]), pay=False))
    assert [(turn.row, turn.behind) for turn in turns] == [(2, False), (1, True)]


@pytest.mark.parametrize(
    ("view", "bound"),
    [
        (ask(1), True),
        (ask(1, ttft_s=1.0, on_miss=OnMiss.WAIT), False),  # behind: its promise is broken
        (ask(1, ttft_s=math.inf, tpot_s=0.1), True),  # the target is all it asks for
        (ask(1, ttft_s=math.inf, tpot_s=0.1, on_miss=OnMiss.WAIT), True),
        (ask(1, ttft_s=math.inf, tpot_s=0.1, on_miss=OnMiss.WAIT, waited_s=61.0), False),
        (ask(1, ttft_s=math.inf, tpot_s=0.1, waited_s=61.0), True),  # it is refused instead
    ],
)
def test_whose_target_must_be_kept_when_it_joins(view: RequestView, bound: bool) -> None:
    (turn,) = jobs([view]).sorted_out(SUPPLY).turns(NONE, pay=False)
    assert turn.bound is bound


@pytest.mark.parametrize(
    ("ttft_s", "waited_s", "keeps"),
    [(20.0, 10.0, True), (20.0, 9.9, False), (math.inf, 0.0, True)],
)
def test_after_half_of_its_time_it_is_not_overtaken(
    ttft_s: float, waited_s: float, keeps: bool
) -> None:
    view = ask(1, ttft_s=ttft_s, waited_s=waited_s)
    (turn,) = jobs([view]).turns(NONE, pay=False)
    assert turn.keeps is keeps


@pytest.mark.parametrize("at", [[0], [3], [0, 0, 2, 3], [1, 1, 1]])
def test_prefills_take_their_places_among_those_that_wait(at: list[int]) -> None:
    places, column = np.array(at), np.array([5.0, 6.0, 7.0])
    for values in (np.arange(len(at)), math.nan):
        wanted = np.insert(column, places, values)
        assert np.array_equal(_between(places, 3)(column, values), wanted, equal_nan=True)
