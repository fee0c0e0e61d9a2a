"""`scorpio` by hand: each of its four parts on a scene small enough to compute on paper."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from scorpio.core.slo import OnMiss
from scorpio.core.snapshot import StepSample
from scorpio.core.speed.follow import EngineSpeed
from tests.conformance.snapshots import NOW_S, Scene, proven, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE, STEP, decode, plan, view


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


@pytest.mark.usefixtures("turned_away")
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
