"""`scorpio` by hand: each of its four parts on a scene small enough to compute on paper."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.policies.scorpio.learn.speed import EngineSpeed
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.request import RequestView
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.snapshot import StepSample
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, proven, snapshot

# 10 ms a step and 0.1 ms a token, whatever kind: easy to add up.
STEP = StepModel(0.010, 1e-4, 1e-4, 96.0, 0.0, 0.0, 0.0)
PROFILE = LatencyProfile(decode_from_step(STEP), prefill_from_step(STEP), STEP, "hand")
LIMITS = limits(max_num_seqs=8, token_budget=2048, kv_tokens=100_000)


def view(name: str, prompt: int, ttft_s: float = math.inf, tpot_s: float = math.inf,
         **more: Any) -> RequestView:  # fmt: skip
    on_miss = more.pop("on_miss", OnMiss.REJECT)
    more.setdefault("arrival_s", NOW_S)
    more = {"max_tokens": 64} | more
    return RequestView(name, more.pop("seq", 1), prompt_tokens=prompt,
                       slo=Slo(ttft_s, tpot_s, on_miss=on_miss, value=more.pop("value", 1.0)),
                       **more)  # fmt: skip


def decode(name: str, tpot_s: float, slot: int = 0, produced: int = 1) -> Row:
    """A running decode whose first token came now."""
    return Row(
        view(name, 10, tpot_s=tpot_s, arrival_s=NOW_S - 0.1),
        slot,
        False,
        9 + produced,
        10,
        produced,
    )


def plan(*running: Row, waiting: tuple[RequestView, ...] = (), **options: float) -> StepPlan:
    scene = Scene(LIMITS, running, tuple((w, False) for w in waiting))
    policy = proven(
        Scorpio(PROFILE, LIMITS, ScorpioOptions(**({"light_debt": 0.0} | options))), PROFILE
    )
    return policy.plan(NOW_S, snapshot(policy, scene))


def test_light_load_is_stock() -> None:
    # 10 ms + 0.1 ms * (1 decode + 50 tokens) = 15.1 ms <= 0.8 * 30 ms of slack.
    assert plan(decode("d", 0.030), waiting=(view("w", 50, 0.5, 0.03),)).stock


def test_without_a_light_share_no_step_is_stock() -> None:
    assert not plan(decode("d", math.inf), waiting=(view("w", 50),), light_share=0.0).stock


def test_a_stock_step_is_as_long_as_its_token_budget() -> None:
    # Of 3,000 tokens 2,048 fit: 10 + 204.8 ms, then 10 + 95.2 for the rest.
    made = plan(waiting=(view("w", 500, 5.0), view("long", 2500, 5.0)))
    assert made.stock
    assert [f.ttft_s for f in made.forecasts] == pytest.approx([0.2148, 0.320])


def test_light_load_may_make_a_decode_late_that_will_be_even_again() -> None:
    # 10 + 0.1 * 501 = 60.1 ms, / 0.8 = 75.1 ms: 45.1 ms late. Then it gains 0.8 * 30 - 10.2 ms a
    # token (two members): even after 3.3 tokens of the 256 expected, a chance of 0.013 to fail.
    waiting = (view("w", 500, 0.5, 0.03),)
    assert not plan(decode("d", 0.030), waiting=waiting, light_debt=0.012).stock
    assert plan(decode("d", 0.030), waiting=waiting, light_debt=0.014).stock


@pytest.mark.parametrize("slo_s", [(math.inf, math.inf), (60.0, math.inf), (math.inf, 60.0)])
def test_without_a_tight_target_steps_are_as_long_as_stocks(slo_s: tuple[float, float]) -> None:
    wide = replace(LIMITS, token_budget=8192)
    policy = proven(Scorpio(PROFILE, wide, ScorpioOptions(light_share=0.0)), PROFILE)
    scene = Scene(wide, (), ((view("w", 10_000, *slo_s), False),))
    assert policy.plan(NOW_S, snapshot(policy, scene)).token_budget == 8192


def test_a_step_counts_on_no_more_of_a_long_prompt_than_the_operator_allows() -> None:
    few = replace(LIMITS, long_prompt_tokens=32)
    waiting = tuple((view(f"w{n}", 500, 5.0, 1.0, seq=n), False) for n in range(4))
    policy = proven(Scorpio(PROFILE, few, ScorpioOptions(light_share=0.0)), PROFILE)
    made = policy.plan(NOW_S, snapshot(policy, Scene(few, (), waiting)))
    assert list(made.admit or ()) == ["w0", "w1", "w2", "w3"]
    assert made.token_budget == 4 * 32


def test_the_look_down_the_queue_is_not_spent_on_those_the_batch_cannot_keep() -> None:
    """A hundred that may not be refused, all due earlier; a step of three decodes takes 10.3 ms."""
    wait = OnMiss.WAIT
    first = [view(f"w{n}", 5, 50.0, 0.0102, seq=n, on_miss=wait) for n in range(100)]
    last = view("last", 5, 55.0, 0.050, seq=200)
    running = (decode("d", 0.050), decode("e", 0.050, slot=1))
    scene = Scene(LIMITS, running, tuple((v, False) for v in (*first, last)))
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    assert list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()) == ["last"]


def test_one_that_is_refused_for_its_tpot_does_not_join_in_the_same_plan() -> None:
    """Its target wastes most of the engine, until one joins that was preempted and is tighter."""
    old_s = NOW_S - 100.0
    preempted = view("tighter", 20, tpot_s=0.014, arrival_s=old_s, seq=1)
    tight = view("tight", 20, tpot_s=0.015, arrival_s=old_s, seq=2)
    scene = Scene(LIMITS, (decode("d", 0.050),), ((preempted, True), (tight, False)))
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    made = policy.plan(NOW_S, snapshot(policy, scene))
    assert [r.request_id for r in made.reject] == ["tight"]
    assert not made.admit


def test_chunk_ends_before_the_next_token_is_due() -> None:
    # Slack 30 ms, 3 ms of it reserve; 27 ms minus 10.1 ms for the decode leaves 16.9 ms: rounded,
    # a little less than 169 tokens of the prompt, so 168; and one for the decode.
    made = plan(decode("d", 0.030), waiting=(view("w", 1000, 5.0, 0.03),))
    assert made.token_budget == 169
    assert list(made.admit or ()) == ["w"]


def test_slack_once_saved_buys_a_longer_chunk() -> None:
    # The 5th token (produced = 4) is due 4 * 30 ms after the first: 120 - 3 ms = 117 ms.
    made = plan(decode("d", 0.030, produced=4), waiting=(view("w", 5000, 5.0, 0.03),))
    assert made.token_budget == 1 + int((0.117 - 0.0101) / 1e-4)


@pytest.mark.parametrize(("value", "gone"), [(1.0, ["long"]), (6.0, ["other", "short"])])
def test_which_one_goes_is_decided_by_cost_per_value(value: float, gone: list[str]) -> None:
    # Room for some 3,200 tokens: the long one and either of the others are too many. Worth six of
    # them it costs least of all.
    waiting = (
        view("long", 2000, 0.5, 0.03, seq=1, value=value),
        view("short", 1400, 0.5, 0.03, seq=2),
        view("other", 1400, 0.5, 0.03, seq=3),
    )
    made = plan(decode("d", 0.030), waiting=waiting, borrow_queue_s=0.0)
    assert sorted(r.request_id for r in made.reject) == gone


def test_longest_is_refused_when_not_all_can_be_on_time() -> None:
    # About 20 of each 30 ms are left for prefill; 0.5 s hold some 3,200 tokens, not 4,000.
    waiting = (
        view("long", 3000, 0.5, 0.03, seq=1),
        view("short", 500, 0.5, 0.03, seq=2),
        view("other", 500, 0.5, 0.03, seq=3),
    )
    made = plan(decode("d", 0.030), waiting=waiting, borrow_queue_s=0.0)
    assert [(r.request_id, r.reason) for r in made.reject] == [
        ("long", RejectReason.TTFT_INFEASIBLE)
    ]
    (refusal,) = made.reject
    assert refusal.attainable_ttft_s is not None
    assert refusal.attainable_ttft_s > 0.5
    assert list(made.admit or ())[:1] == ["short"]


def test_of_two_prompts_the_one_with_the_longer_answer_is_refused() -> None:
    waiting = (
        view("brief", 2200, 0.5, 0.03, seq=1, predicted_output_tokens=20.0),
        view("verbose", 2190, 0.5, 0.03, seq=2, predicted_output_tokens=60.0),
    )
    made = plan(decode("d", 0.030), waiting=waiting)
    assert [r.request_id for r in made.reject] == ["verbose"]


def test_a_short_queue_borrows_from_the_decodes_instead_of_refusing() -> None:
    # 3,400 tokens are more than 0.5 s of such steps hold. Steps of two targets leave 49.9 of 60 ms:
    # 0.41 s. The decode is 0.2 s late by then, and even after 0.2 / 0.0198 of 256 tokens.
    waiting = (view("a", 1900, 0.5, 0.03, seq=1), view("b", 1500, 0.5, 0.03, seq=2))
    made = plan(decode("d", 0.030), waiting=waiting)
    assert not made.reject
    assert made.token_budget == 1 + int((0.060 - 0.0101) / 1e-4)
    punctual = plan(decode("d", 0.030), waiting=waiting, borrow_queue_s=0.0)
    assert [r.request_id for r in punctual.reject] == ["a"]
    assert punctual.token_budget == 169


def test_many_decodes_lend_nothing_when_more_would_be_late_than_kept() -> None:
    waiting = (view("a", 1800, 0.5, 0.03, seq=1), view("b", 1500, 0.5, 0.03, seq=2))
    running = tuple(decode(f"d{n}", 0.030, slot=n) for n in range(7))
    for mean_tokens, lends in ((256.0, True), (30.0, False)):
        policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions()), PROFILE)
        policy._lengths.mean_tokens = mean_tokens
        scene = Scene(LIMITS, running, tuple((w, False) for w in waiting))
        made = policy.plan(NOW_S, snapshot(policy, scene))
        assert (not made.reject) is lends, mean_tokens


@pytest.mark.parametrize("on_miss", [OnMiss.DEGRADE, OnMiss.WAIT])
def test_one_that_does_not_want_a_refusal_gets_none(on_miss: OnMiss) -> None:
    waiting = (
        view("long", 3000, 0.5, 0.03, seq=1, on_miss=on_miss),
        view("short", 500, 0.5, 0.03, seq=2),
    )
    refused = {r.request_id for r in plan(decode("d", 0.030), waiting=waiting).reject}
    assert "long" not in refused


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


def test_tightest_target_bounds_the_batch() -> None:
    # 12 ms for the tightest, less its reserve, leave time for a few tokens of the first newcomer.
    waiting = (view("a", 200, 5.0, 0.012, seq=1), view("b", 200, 5.0, 0.012, seq=2))
    made = plan(decode("d", 0.012), waiting=waiting)
    assert list(made.admit or ()) == ["a"]


def begun(output_tokens: int = 0, **more: Any) -> Row:
    """A prefill of which 3,900 tokens are left; due in 5 s unless told otherwise."""
    more = {"ttft_s": 5.0} | more
    return Row(view("giant", 4000, tpot_s=0.03, **more), 1, False, 100, 4000, output_tokens)


# Some 20 of each 30 ms are left for prefill, 3.3 s of the 5 s: 33,000 tokens and no more.
LATER = tuple(view(f"w{n}", 3500, 5.0, 0.03, seq=n + 2) for n in range(9))


def test_a_prefill_that_has_begun_stands_back_when_it_costs_most() -> None:
    alone = plan(decode("d", 0.030), begun(), waiting=LATER[:4])
    assert not alone.defer_prefill
    assert not alone.admit  # all can be on time, and it is first
    crowd = plan(decode("d", 0.030), begun(), waiting=LATER)
    assert list(crowd.defer_prefill) == [1]
    assert list(crowd.admit or ()) == ["w0"]
    assert "giant" not in {r.request_id for r in crowd.reject}


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
        running.append(begun(arrival_s=since_s))
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


def test_a_target_alone_is_refused_once_no_other_can_wait_any_longer() -> None:
    # The batch's steps have a fixed part of more than half of 18 ms.
    for waited_s, refused in ((59.0, []), (61.0, ["tight"])):
        tight = view("tight", 20, tpot_s=0.018, arrival_s=NOW_S - waited_s)
        made = plan(decode("d", 0.030), waiting=(tight,), light_share=0.0)
        assert [r.request_id for r in made.reject] == refused
        assert all(r.reason is RejectReason.TPOT_INFEASIBLE for r in made.reject)
        patient = replace(tight, slo=replace(tight.slo, on_miss=OnMiss.WAIT))
        made = plan(decode("d", 0.030), waiting=(patient,), light_share=0.0)
        assert list(made.admit or ()) == (["tight"] if refused else [])


def test_one_that_stood_back_takes_what_is_left() -> None:
    # Late already, but no other wants the time.
    made = plan(decode("d", 0.030, produced=4), begun(arrival_s=NOW_S - 10.0))
    assert list(made.prefill_order or ()) == [1]
    assert not made.defer_prefill


def test_one_that_joins_must_be_able_to_keep_its_own_target() -> None:
    # 10 ms + 0.1 ms * 6 members > 10.5 ms; with 11 ms it could.
    running = tuple(decode(f"d{n}", 0.0105, slot=n, produced=4) for n in range(5))
    waiting = (view("tight", 20, 5.0, 0.0105, seq=1), view("loose", 20, 5.0, 0.011, seq=2))
    assert list(plan(*running, waiting=waiting, light_share=0.0).admit or ()) == ["loose"]


def test_no_request_sets_a_target_that_wastes_half_of_the_engine() -> None:
    # The fixed part of a step is 10.1 ms: more than half of 20 ms, less than half of 20.3 ms.
    waiting = (view("tight", 20, 5.0, 0.0200, seq=1), view("loose", 20, 5.0, 0.0203, seq=2))
    made = plan(decode("d", 0.030), waiting=waiting, light_share=0.0)
    assert list(made.admit or ()) == ["loose"]
    alone = plan(waiting=waiting, light_share=0.0)
    assert list(alone.admit or ()) == ["tight", "loose"]


def test_no_class_is_turned_away_for_a_slow_minute() -> None:
    # At 1.3 times the profile's the fixed part of a step is 13.1 ms, more than half of 21 ms.
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    for _ in range(300):
        policy.observe(StepSample(0, 0.0, 0.0, 1, 10, 1.3 * 0.0101))
    scene = Scene(LIMITS, (decode("d", 0.030),), ((view("w", 20, 5.0, 0.021, seq=1), False),))
    assert list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()) == ["w"]


def test_one_that_wanted_such_a_target_is_told_so_when_its_time_is_up() -> None:
    tight = view("tight", 20, 5.0, 0.0200, arrival_s=NOW_S - 4.999)
    for running, reason in (
        (0.030, RejectReason.TPOT_INFEASIBLE),
        (0.020, RejectReason.TTFT_INFEASIBLE),  # the batch has that target already
    ):
        (refusal,) = plan(decode("d", running), waiting=(tight,)).reject
        assert refusal.reason is reason
        assert refusal.retry_after_s is not None
        assert (refusal.attainable_ttft_s is None) is (reason is RejectReason.TPOT_INFEASIBLE)


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


def test_hopeless_requests_are_refused_at_once_and_for_good() -> None:
    waiting = (view("huge", 100_000, 60.0), view("fast", 4000, 60.0, 0.005, seq=2))
    made = plan(decode("d", 0.030), waiting=waiting)
    assert {r.request_id: (r.reason, r.retry_after_s) for r in made.reject} == {
        "huge": (RejectReason.KV_INFEASIBLE, None),
        "fast": (RejectReason.TPOT_INFEASIBLE, None),
    }


@pytest.mark.parametrize("more", [{}, {"tpot_s": 0.03}])
def test_one_that_did_not_say_when_is_not_refused_for_being_late(more: dict[str, float]) -> None:
    waiting = tuple(view(f"w{n}", 3000, seq=n, arrival_s=NOW_S - 90.0, **more) for n in range(9))
    made = plan(decode("d", 0.030), waiting=waiting)
    assert not made.reject
    assert list(made.admit or ()) == ["w0"]


def test_a_deadline_beyond_the_patience_is_the_one_that_counts() -> None:
    # 2,000 tokens cannot be had in what is left of 60 s, but easily in what is left of 70 s.
    late = view("late", 2000, 70.0, 0.03, arrival_s=NOW_S - 59.9)
    assert not plan(decode("d", 0.030), waiting=(late,)).reject
    tighter = view("late", 2000, 60.0, 0.03, arrival_s=NOW_S - 59.9)
    assert plan(decode("d", 0.030), waiting=(tighter,)).reject


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


@pytest.mark.parametrize(("waited_s", "small"), [(4.0, ["s0", "s1"]), (6.0, [])])
def test_a_prompt_without_room_is_not_overtaken_once_half_of_its_time_is_up(
    waited_s: float, small: list[str]
) -> None:
    # 1,000 of 2,000 tokens of KV are free, and the big one needs 1,500.
    engine = limits(max_num_seqs=8, token_budget=2048, kv_tokens=2000)
    running = (Row(view("d", 990, arrival_s=NOW_S - 0.1), 0, False, 1000, 990, 10),)
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


@pytest.mark.parametrize(
    "options", [{"nonsense": 1.0}, {"light_share": 2.0}, {"patience_s": math.nan}]
)
def test_bad_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ScorpioOptions.parse("scorpio", options)


def test_calibration_follows_a_slower_engine_and_ignores_stalls() -> None:
    speed = EngineSpeed(STEP)
    predicted_s = STEP.step_s(10, 0.0)
    for step in range(400):
        stalled = 100.0 if step % 50 == 0 else 1.3
        speed.observe(StepSample(0, 0.0, 0.0, 10, 0, predicted_s * stalled))
    assert speed.factor == pytest.approx(1.3, rel=0.01)
    assert speed.model().step_s(10, 0.0) == pytest.approx(1.3 * predicted_s, rel=0.01)


def test_unmeasured_profile_means_stock() -> None:
    free = StepModel(*np.zeros(7))
    profile = LatencyProfile(decode_from_step(free), prefill_from_step(free), free)
    policy = proven(Scorpio(profile, LIMITS, ScorpioOptions()), profile)
    policy.observe(StepSample(10, 100.0, 0.0, 1, 10, 0.02))
    scene = Scene(LIMITS, (decode("d", 0.03),), ((view("w", 500, 0.5, 0.03), False),))
    assert policy.plan(NOW_S, snapshot(policy, scene)).stock
