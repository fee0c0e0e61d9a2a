"""`scorpio` by hand: what joins the batch, and whose TPOT target binds it."""

from __future__ import annotations

import pytest

from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.slo import OnMiss
from tests.conformance.snapshots import NOW_S, Row, Scene, proven, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE, decode, plan, view


def test_tightest_target_bounds_the_batch() -> None:
    # 12 ms for the tightest, less its reserve, leave time for a few tokens of the first newcomer.
    waiting = (view("a", 200, 5.0, 0.012, seq=1), view("b", 200, 5.0, 0.012, seq=2))
    made = plan(decode("d", 0.012), waiting=waiting)
    assert list(made.admit or ()) == ["a"]


def test_one_that_joins_must_be_able_to_keep_its_own_target() -> None:
    # 10 ms + 0.1 ms * 6 members > 10.5 ms; with 11 ms it could.
    running = tuple(decode(f"d{n}", 0.0105, slot=n, produced=4) for n in range(5))
    waiting = (view("tight", 20, 5.0, 0.0105, seq=1), view("loose", 20, 5.0, 0.011, seq=2))
    assert list(plan(*running, waiting=waiting, light_share=0.0).admit or ()) == ["loose"]


@pytest.mark.usefixtures("turned_away")
def test_no_request_sets_a_target_that_wastes_half_of_the_engine() -> None:
    # The fixed part of a step is 10.1 ms: more than half of 20 ms, less than half of 20.3 ms.
    waiting = (view("tight", 20, 5.0, 0.0200, seq=1), view("loose", 20, 5.0, 0.0203, seq=2))
    made = plan(decode("d", 0.030), waiting=waiting, light_share=0.0)
    assert list(made.admit or ()) == ["loose"]
    alone = plan(waiting=waiting, light_share=0.0)
    assert list(alone.admit or ()) == ["tight", "loose"]


def test_a_broken_promise_binds_no_other() -> None:
    # Its first token came 0.1 s after it was sent, 50 ms too late.
    late = Row(view("late", 10, 0.05, 0.012, arrival_s=NOW_S - 0.1), 0, False, 10, 10, 1)
    made = plan(late, waiting=(view("w", 1000, 5.0, 0.030),), light_share=0.0)
    assert list(made.admit or ()) == ["w"]
    assert made.token_budget == 1001


def test_one_whose_first_token_is_overdue_joins_without_a_target() -> None:
    # 18 ms would be too tight for a batch whose steps have a fixed part of 10.1 ms.
    overdue = view("w", 20, 1.0, 0.018, arrival_s=NOW_S - 2.0, on_miss=OnMiss.WAIT)
    made = plan(decode("d", 0.030), waiting=(overdue,), light_share=0.0)
    assert list(made.admit or ()) == ["w"]


@pytest.mark.usefixtures("turned_away")
def test_one_that_cannot_join_does_not_hold_up_the_next() -> None:
    waiting = (view("tight", 400, 5.0, 0.0102, seq=1), view("loose", 400, 6.0, 0.05, seq=2))
    assert list(plan(decode("d", 0.030), waiting=waiting).admit or ()) == ["loose"]


def test_a_target_out_of_reach_binds_no_other() -> None:
    # No step is shorter than 10 ms: who asks for 1 ms and may not be refused is served, no more.
    greedy = view("greedy", 10, 1.0, 0.001, arrival_s=NOW_S - 0.1, on_miss=OnMiss.WAIT)
    other = view("other", 1000, 5.0, 0.030, seq=2)
    made = plan(Row(greedy, 0, False, 10, 10, 1), waiting=(other,))
    assert list(made.admit or ()) == ["other"]
    assert made.token_budget == 1001  # nor does it shorten the step
    made = plan(decode("d", 0.030), waiting=(greedy, view("other", 20, 5.0, 0.030, seq=2)))
    assert list(made.admit or ()) == ["other", "greedy"]


def test_a_target_that_was_given_up_binds_no_other_while_it_runs() -> None:
    # Let in after patience_s without its 18 ms; then it runs beside a decode of 30 ms.
    tight = view("tight", 20, tpot_s=0.018, arrival_s=NOW_S - 61.0, on_miss=OnMiss.WAIT)
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    scene = Scene(LIMITS, (decode("d", 0.030),), ((tight, False),))
    assert list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()) == ["tight"]
    runs = Row(tight, 1, True, 20, 20, 1)
    scene = Scene(LIMITS, (decode("d", 0.030), runs), ((view("w", 1000, 5.0, 0.03), False),))
    made = policy.plan(NOW_S, snapshot(policy, scene))
    assert made.token_budget == 2 + int((0.027 - 0.0102) / 1e-4)
    fresh = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    assert (fresh.plan(NOW_S, snapshot(fresh, scene)).token_budget or 0) < 100
