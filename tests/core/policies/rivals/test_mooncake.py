"""`mooncake`: is the forecast at arrival right, and is each request judged exactly once?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.policies.rivals.mooncake.policy import Mooncake, MooncakeOptions
from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, OnMiss, Slo
from scorpio.core.snapshot import StepSample
from tests.conformance.snapshots import NOW_S, PROFILES, Row, Scene, limits, policy_for, snapshot

LIMITS = limits(max_num_seqs=300, token_budget=2048, kv_tokens=1_000_000)


def ask(name: str, slo: Slo, prompt: int = 100, predicted: float = 50.0) -> RequestView:
    return RequestView(name, int(name[1:]), NOW_S, prompt, 4000, slo, "", "", predicted)


def decode(i: int, predicted: float = 1e4) -> Row:
    """Ten of them on one row of the table would be the same to the model."""
    view = ask(f"r{i}", NO_SLO, 100, predicted)
    return Row(view, i, True, 500, 100, 10)


def plan(*waiting: RequestView, running: tuple[Row, ...] = ()) -> StepPlan:
    policy = policy_for("mooncake", LIMITS)
    return policy.plan(
        NOW_S, snapshot(policy, Scene(LIMITS, running, tuple((v, False) for v in waiting)))
    )


def test_ttft_of_the_queue_ahead_by_hand() -> None:
    # 20480 + 1000 tokens at 53 us = 1.13844 s, in 21480 / 2048 steps of 11.6 ms = 0.12167 s,
    # and 20 ms of margin: 1.28011 s.
    ahead = Row(ask("r1", NO_SLO, 20_480), 0, True, 0, 20_480, 0)
    (refused,) = plan(ask("r2", Slo(1.27), 1000), running=(ahead,)).reject
    assert refused.reason is RejectReason.TTFT_INFEASIBLE
    assert refused.attainable_ttft_s == pytest.approx(1.28011, abs=1e-5)
    assert refused.retry_after_s == 1.0
    assert plan(ask("r2", Slo(1.29), 1000), running=(ahead,)).stock


def test_tpot_of_the_batch_after_joining_by_hand() -> None:
    # 200 decodes and the newcomer: 11.6 + 96 * 0.03 + 105 * 0.053 = 20.045 ms, and
    # 8e-5 ms * (200 * 500 + 100 + 25) = 8.01 ms of context: 28.055 ms.
    running = tuple(decode(i) for i in range(200))
    (refused,) = plan(ask("r900", Slo(9.0, 0.028)), running=running).reject
    assert refused.reason is RejectReason.TPOT_INFEASIBLE
    assert plan(ask("r900", Slo(9.0, 0.0282)), running=running).stock


def test_what_an_unfinished_prefill_still_computes_is_context_once() -> None:
    # 200 decodes, a prompt of 5,000 with 1,000 left, and the newcomer: 11.6 + 96 * 0.03
    # + 106 * 0.053 = 20.098 ms, and 8e-5 ms * (200 * 500 + 5,000 + 100 + 25) = 8.41 ms: 28.508 ms.
    running = (
        *(decode(i) for i in range(200)),
        Row(ask("r300", NO_SLO, 5000), 200, False, 4000, 5000, 0),
    )
    (refused,) = plan(ask("r900", Slo(9.0, 0.02850)), running=running).reject
    assert refused.reason is RejectReason.TPOT_INFEASIBLE
    assert plan(ask("r900", Slo(9.0, 0.02852)), running=running).stock


def test_one_that_will_have_left_by_then_does_not_count() -> None:
    # A prompt of 20,000 takes over a second; these have a predicted 10 tokens and stay a moment.
    leaving = tuple(decode(i, predicted=11.0) for i in range(200))
    slo = Slo(9.0, 0.015)
    assert plan(ask("r900", slo, 20_000), running=leaving).stock
    assert plan(ask("r900", slo, 100), running=leaving).reject


def test_a_newcomer_must_not_break_the_promises_of_the_batch() -> None:
    tight = Row(ask("r901", Slo(9.0, 0.028)), 200, True, 500, 100, 10)
    running = (*(decode(i) for i in range(200)), tight)
    assert plan(ask("r902", Slo(9.0, 5.0)), running=running).reject
    mad = Row(ask("r901", Slo(9.0, 0.001, on_miss=OnMiss.WAIT)), 200, True, 500, 100, 10)
    assert plan(ask("r902", Slo(9.0, 5.0)), running=(*running[:200], mad)).stock


def test_one_that_asked_for_nothing_is_not_refused_for_the_sake_of_others() -> None:
    tight = Row(ask("r901", Slo(9.0, 0.028)), 200, True, 500, 100, 10)
    running = (*(decode(i) for i in range(200)), tight)
    assert plan(ask("r902", NO_SLO), running=running).stock
    assert not plan(ask("r902", Slo(tpot_s=5.0), 500_000)).reject  # any TTFT will do


def test_measured_prefill_share_stretches_the_target() -> None:
    policy = policy_for("mooncake", LIMITS)
    newcomer = ask("r1", Slo(9.0, 0.02))
    scene = Scene(LIMITS, (), ((newcomer, False),))
    # Alone it decodes at 11.64 ms; when half of all time goes into prefill, at 23.3 ms.
    policy.observe(StepSample(200, 0.0, 0.0, 0, 0, 2 * 0.0116))
    (refused,) = policy.plan(NOW_S, snapshot(policy, scene)).reject
    assert refused.reason is RejectReason.TPOT_INFEASIBLE


def test_judged_once_at_arrival() -> None:
    policy = policy_for("mooncake", LIMITS)
    kept = ask("r1", Slo(2.0), 1000)
    first = snapshot(policy, Scene(LIMITS, (), ((kept, False),)))
    assert policy.plan(NOW_S, first).stock
    assert policy.plan(NOW_S + 60.0, first).stock
    second = snapshot(policy, Scene(LIMITS, (), ((kept, False), (ask("r2", Slo(2.0)), False))))
    assert [r.request_id for r in policy.plan(NOW_S + 60.0, second).reject] == ["r2"]


@pytest.mark.parametrize("on_miss", [OnMiss.WAIT, OnMiss.DEGRADE])
def test_one_that_asked_not_to_be_refused_is_not(on_miss: OnMiss) -> None:
    assert plan(ask("r1", Slo(0.001, on_miss=on_miss))).stock


def test_seats_are_waited_for() -> None:
    engine = limits(max_num_seqs=1, token_budget=2048)
    policy = policy_for("mooncake", engine)
    # 100 tokens still to come at 11.67 ms: the seat is free after 1.17 s.
    busy = Row(ask("r1", NO_SLO, 100, 110.0), 0, True, 500, 100, 10)
    scene = Scene(engine, (busy,), ((ask("r2", Slo(1.0, math.inf)), False),))
    (refused,) = policy.plan(NOW_S, snapshot(policy, scene)).reject
    assert refused.attainable_ttft_s == pytest.approx(0.02 + 1.167, abs=0.001)


def test_attention_of_the_queue_ahead_by_hand() -> None:
    """Prompts attend to themselves and to what is cached of them."""
    step = StepModel(0.0116, 5.3e-5, 5.3e-5, 1e9, 1e-8, 2e-8, 0.0)
    speed = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")
    engine = limits(max_num_seqs=8, token_budget=600, kv_tokens=100_000)
    policy = policy_for("mooncake", engine, speed)
    running = (Row(ask("r1", NO_SLO, 500), 0, True, 0, 500, 0),)
    first = replace(ask("r2", NO_SLO, 1200), cached_tokens=200)
    second = replace(ask("r3", NO_SLO, 400), cached_tokens=100)
    policy.plan(NOW_S, snapshot(policy, Scene(engine, running, ((first, False),))))
    waiting = ((first, False), (second, False))
    (told,) = policy.plan(NOW_S, snapshot(policy, Scene(engine, running, waiting))).forecasts
    # 500 + 1000 + 300 tokens in three steps, and the margin.
    attention_s = 1e-8 * (500**2 + 1000**2 + 300**2) + 2e-8 * (1000 * 200 + 300 * 100)
    assert told.request_id == "r3"
    assert told.ttft_s == pytest.approx(0.02 + 3 * 0.0116 + 1800 * 5.3e-5 + attention_s)


def test_decodes_take_their_part_of_the_token_budget() -> None:
    step = StepModel(0.010, 0.0, 0.0, 1e9, 0.0, 0.0, 0.0)
    speed = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "test")
    engine = limits(max_num_seqs=300, token_budget=600, kv_tokens=1_000_000)
    for count, steps in ((100, 2.0), (0, 1000 / 600)):
        policy = policy_for("mooncake", engine, speed)
        running = tuple(decode(i) for i in range(count))
        scene = Scene(engine, running, ((ask("r900", NO_SLO, 1000), False),))
        (told,) = policy.plan(NOW_S, snapshot(policy, scene)).forecasts
        assert told.ttft_s == pytest.approx(0.02 + steps * 0.010)


def test_a_target_out_of_reach_is_no_promise_to_keep() -> None:
    # 11.6 + 0.03 ms alone: 11 ms bind no other, so a third one may join them.
    asked = ask("r2", Slo(9.0, 0.011, on_miss=OnMiss.WAIT)), ask("r3", Slo(9.0, 0.05))
    made = plan(*asked)
    assert made.stock
    assert [told.request_id for told in made.forecasts] == ["r2", "r3"]


def test_preempted_ones_are_not_judged_and_hold_up_no_verdict() -> None:
    policy = policy_for("mooncake", LIMITS)
    back, new = ask("r1", Slo(9.0)), ask("r2", Slo(9.0))
    made = policy.plan(NOW_S, snapshot(policy, Scene(LIMITS, (), ((back, True), (new, False)))))
    assert [told.request_id for told in made.forecasts] == ["r2"]


def test_what_is_possible_alone_is_asked_of_an_empty_context() -> None:
    policy = Mooncake(PROFILES["a100"], LIMITS, MooncakeOptions())
    assert policy._possible_tpot_s == PROFILES["a100"].step.step_s(1, 0.0)
