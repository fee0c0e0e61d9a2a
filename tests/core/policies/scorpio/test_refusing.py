"""`scorpio` by hand: which requests are refused, when, and which are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scorpio.core.plan import RejectReason
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.slo import OnMiss
from scorpio.core.snapshot import StepSample
from tests.conformance.snapshots import NOW_S, Scene, proven, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE, decode, plan, view


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


@pytest.mark.usefixtures("turned_away")
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


def test_no_class_is_turned_away_for_a_slow_minute() -> None:
    # At 1.3 times the profile's the fixed part of a step is 13.1 ms, more than half of 21 ms.
    policy = proven(Scorpio(PROFILE, LIMITS, ScorpioOptions(light_share=0.0)), PROFILE)
    for _ in range(300):
        policy.observe(StepSample(0, 0.0, 0.0, 1, 10, 1.3 * 0.0101))
    scene = Scene(LIMITS, (decode("d", 0.030),), ((view("w", 20, 5.0, 0.021, seq=1), False),))
    assert list(policy.plan(NOW_S, snapshot(policy, scene)).admit or ()) == ["w"]


@pytest.mark.usefixtures("turned_away")
def test_one_that_wanted_such_a_target_is_told_so_when_its_time_is_up() -> None:
    tight = view("tight", 20, 5.0, 0.0200, arrival_s=NOW_S - 4.999)
    for running, reason in (
        (0.030, RejectReason.TPOT_INFEASIBLE),
        (0.020, RejectReason.TTFT_INFEASIBLE),  # the batch has that target already
    ):
        (refusal,) = plan(decode("d", running), waiting=(tight,)).reject
        assert refusal.reason is reason
        assert not refusal.never
        assert (refusal.attainable_ttft_s is None) is (reason is RejectReason.TPOT_INFEASIBLE)


def test_hopeless_requests_are_refused_at_once_and_for_good() -> None:
    waiting = (view("huge", 100_000, 60.0), view("fast", 4000, 60.0, 0.005, seq=2))
    made = plan(decode("d", 0.030), waiting=waiting)
    assert {r.request_id: (r.reason, r.retry_after_s, r.never) for r in made.reject} == {
        "huge": (RejectReason.KV_INFEASIBLE, None, True),
        "fast": (RejectReason.TPOT_INFEASIBLE, None, True),
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
