"""`scorpio` by hand: what stands back, what keeps its turn, and what overtakes what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.slo import OnMiss
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, proven, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE, decode, plan, view


def test_an_adapter_without_a_place_holds_up_no_other() -> None:
    scene = Scene(
        replace(LIMITS, max_adapters=2),
        (Row(view("d", 10, tpot_s=0.03, arrival_s=NOW_S - 0.1, adapter=1), 0, False, 10, 10, 1),),
        tuple(
            (view(name, 50, due_s, 0.03, seq=seq, adapter=adapter), False)
            for seq, (name, due_s, adapter) in enumerate(
                (("same", 0.4, 1), ("new", 0.5, 2), ("no place", 0.6, 3), ("base", 0.7, 0))
            )
        ),
    )
    policy = proven(Scorpio(PROFILE, scene.limits, ScorpioOptions(light_share=0.0)), PROFILE)
    made = policy.plan(NOW_S, snapshot(policy, scene))
    assert list(made.admit or ()) == ["same", "new", "base"]
    assert not made.reject


def test_urgent_prompt_overtakes_an_unfinished_prefill() -> None:
    slow = Row(view("slow", 4000, 60.0, 0.03), 1, False, 100, 4000, 0)
    made = plan(decode("d", 0.030), slow, waiting=(view("w", 600, 0.3, 0.03, seq=2),))
    assert list(made.admit or ()) == ["w"]
    assert list(made.defer_prefill) == [1]


def begun(output_tokens: int = 0, **more: Any) -> Row:
    """A prefill of which 3,900 tokens are left; due in 5 s unless told otherwise."""
    more = {"ttft_s": 5.0} | more
    return Row(view("giant", 4000, tpot_s=0.03, **more), 1, False, 100, 4000, output_tokens)


# Some 20 of each 30 ms are left for prefill, 3.3 s of the 5 s: 33,000 tokens and no more.
LATER = tuple(view(f"w{n}", 3500, 5.0, 0.03, seq=n + 2) for n in range(9))


@pytest.mark.parametrize(("on_miss", "told"), [(OnMiss.REJECT, True), (OnMiss.DEGRADE, False)])
def test_a_prefill_that_has_begun_is_shed_when_it_costs_most(on_miss: OnMiss, told: bool) -> None:
    """Its client hears of it where it may be refused: there is no token yet."""
    row = begun(on_miss=on_miss)
    alone = plan(decode("d", 0.030), row, waiting=LATER[:4])
    assert not alone.defer_prefill
    assert not alone.admit  # all can be on time, and it is first
    crowd = plan(decode("d", 0.030), row, waiting=LATER)
    assert list(crowd.defer_prefill) == [1]
    assert list(crowd.admit or ()) == ["w0"]
    assert ("giant" in {r.request_id for r in crowd.reject}) is told


def test_while_the_profile_is_unproven_no_prefill_that_has_begun_is_refused() -> None:
    scene = Scene(LIMITS, (decode("d", 0.030), begun()), tuple((w, False) for w in LATER))
    policy = Scorpio(PROFILE, LIMITS, ScorpioOptions())
    made = policy.plan(NOW_S, snapshot(policy, scene))
    assert not made.reject
    assert list(made.defer_prefill) == [1]


@pytest.mark.parametrize(
    "row",
    [
        begun(on_miss=OnMiss.WAIT),
        begun(output_tokens=3),  # preempted: its answer has begun
        begun(value=100.0),
    ],
)
def test_a_prefill_that_has_begun_keeps_its_turn(row: Row) -> None:
    assert not plan(decode("d", 0.030), row, waiting=LATER).defer_prefill


@pytest.mark.parametrize("behind", ["begun", "wait"])
def test_one_that_stood_behind_for_long_has_an_eighth_of_the_prefill(behind: str) -> None:
    # Sent more than patience_s ago. Its work is not in the others' way: none of them is refused.
    since_s = NOW_S - 66.0
    running, waiting = [decode("d", 0.030)], list(LATER[:8])
    if behind == "begun":
        running.append(begun(arrival_s=since_s, on_miss=OnMiss.DEGRADE))
    else:
        old = view("giant", 4000, 5.0, 0.03, on_miss=OnMiss.WAIT, seq=99, arrival_s=since_s)
        waiting.insert(0, old)
    scene = Scene(LIMITS, tuple(running), tuple((w, False) for w in waiting))
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions()), PROFILE)
    plans = [policy.plan(NOW_S, snapshot(policy, scene)) for _ in range(800)]
    assert not any(made.reject for made in plans)
    theirs = [made.prefill_order == [1] or made.admit == ["giant"] for made in plans]
    assert all(made.admit == ["w0"] for made, its in zip(plans, theirs, strict=True) if not its)
    assert sum(theirs) == pytest.approx(100, abs=1)
    assert max(b - a for a, b in pairwise(np.flatnonzero(theirs))) <= 8


@pytest.mark.parametrize("on_miss", [OnMiss.DEGRADE, OnMiss.WAIT])
def test_a_broken_promise_does_not_lead(on_miss: OnMiss) -> None:
    broken = tuple(
        view(f"b{n}", 500, 1e-6, 0.03, seq=n, on_miss=on_miss, arrival_s=NOW_S - 2.0)
        for n in range(100)
    )
    good = (view("good", 100, 0.5, 0.03, seq=200), view("long", 2000, 0.5, 0.03, seq=201))
    made = plan(decode("d", 0.030), waiting=(*broken, *good))
    assert next(iter(made.admit or ())) == "good"
    assert not made.reject  # as if they were not there
    wish = view("w", 500, 3.0, 0.03, seq=1, on_miss=OnMiss.WAIT)  # this one can still be kept
    assert next(iter(plan(decode("d", 0.030), waiting=(*good, wish)).admit or ())) == "good"
    made = plan(decode("d", 0.030), waiting=(wish, view("later", 500, 5.0, 0.03, seq=2)))
    assert next(iter(made.admit or ())) == "w"


@pytest.mark.parametrize("on_miss", [OnMiss.DEGRADE, OnMiss.WAIT])
def test_a_target_out_of_reach_does_not_lead_either(on_miss: OnMiss) -> None:
    mad = view("mad", 500, 1.0, 0.001, seq=1, on_miss=on_miss)
    made = plan(decode("d", 0.030), waiting=(mad, view("good", 500, 5.0, 0.03, seq=2)))
    assert list(made.admit or ()) == ["good"]


def test_one_that_states_no_deadline_takes_what_the_others_leave_in_order_of_arrival() -> None:
    free = tuple(view(f"f{n}", 50, seq=9 - n, arrival_s=NOW_S - n) for n in range(9))
    made = plan(decode("d", 0.030), waiting=(*free, view("good", 20, 30.0, 0.03, seq=20)))
    assert list(made.admit or ())[:4] == ["good", "f8", "f7", "f6"]


def test_one_that_stood_back_takes_what_is_left() -> None:
    # Late already, but no other wants the time.
    late = begun(arrival_s=NOW_S - 10.0, on_miss=OnMiss.DEGRADE)
    made = plan(decode("d", 0.030, produced=4), late)
    assert list(made.prefill_order or ()) == [1]
    assert not made.defer_prefill


@pytest.mark.parametrize(("waited_s", "small"), [(4.0, ["s0", "s1"]), (6.0, [])])
def test_a_prompt_without_room_is_not_overtaken_once_half_of_its_time_is_up(
    waited_s: float, small: list[str]
) -> None:
    # 1,000 of 2,000 tokens of KV are free, and the big one needs 1,500.
    engine = limits(max_num_seqs=8, token_budget=2048, kv_tokens=2000)
    running = (Row(view("d", 990, arrival_s=NOW_S - 0.1, max_tokens=64), 0, False, 1000, 990, 10),)
    big = view("big", 1500, 10.0, 0.03, arrival_s=NOW_S - waited_s)
    waiting = (big, view("s0", 100, 30.0, seq=2), view("s1", 100, 30.0, seq=3))
    policy = proven(Scorpio(PROFILE, engine, ScorpioOptions(light_share=0.0)), PROFILE)
    scene = Scene(engine, running, tuple((w, False) for w in waiting))
    assert list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()) == small
    sooner = Scene(engine, running, ((big, False), (view("s2", 100, 2.0, seq=4), False)))
    policy = proven(Scorpio(PROFILE, engine, ScorpioOptions(light_share=0.0)), PROFILE)
    assert list(policy.plan(NOW_S, snapshot(policy, sooner)).admit or ()) == ["s2"]


def test_no_request_without_a_ttft_slo_waits_for_ever() -> None:
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(patience_s=10.0)), PROFILE)
    old = view("old", 100, arrival_s=NOW_S - 20.0)
    fresh = view("new", 100, ttft_s=5.0, seq=2)
    assert policy.queue_key(old) < policy.queue_key(fresh)
