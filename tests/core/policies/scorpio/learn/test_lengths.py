"""Are length predictions believed as far as they prove right, and no further?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scorpio.core.kv_forecast import MOMENTS
from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from tests.conformance.snapshots import NOW_S, Row, Scene, snapshot
from tests.core.policies.scorpio.hand import LIMITS, PROFILE, view

ANSWERS = 1500


def taught(predict: Callable[[float, np.random.Generator], float]) -> LengthBelief:
    """A belief that has seen `ANSWERS` answers and what was predicted for them."""
    rng = np.random.default_rng(0)
    belief = LengthBelief(LIMITS.max_num_seqs)
    policy = Scorpio(PROFILE, LIMITS, ScorpioOptions())
    for number in range(ANSWERS):
        length = float(np.exp(rng.normal(5.0, 1.0)))
        predicted = predict(length, rng)
        request = view(f"r{number}", 10, predicted_output_tokens=predicted, arrival_s=NOW_S)
        for joined, produced in ((True, 1), (False, max(round(length), 1))):
            row = Row(request, 0, joined, 10, 10, produced)
            seen = snapshot(policy, Scene(LIMITS, (row,), ()))
            belief.follow(seen.running, seen.waiting)
    return belief


def expected(belief: LengthBelief, *predicted: float, most: float = math.inf) -> list[float]:
    return belief.expected(np.array(predicted), np.full(len(predicted), most)).tolist()


def test_exact_predictions_are_taken_as_they_are() -> None:
    belief = taught(lambda length, _: length)
    assert belief.slope == pytest.approx(1.0, abs=0.02)
    assert expected(belief, 20.0, 1000.0) == pytest.approx([20.0, 1000.0], rel=0.1)


def test_a_bias_is_taken_off() -> None:
    belief = taught(lambda length, _: 3.0 * length)
    assert expected(belief, 60.0, 3000.0) == pytest.approx([20.0, 1000.0], rel=0.1)


def test_noise_is_regressed_to_the_mean() -> None:
    # Variance 1 of the truth and 1 of the error: half of a deviation is real.
    belief = taught(lambda length, rng: length * float(np.exp(rng.normal())))
    assert belief.slope == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("wrong", [lambda n, _: 4e4 / n, lambda _n, _: 200.0])
def test_what_says_nothing_changes_nothing(
    wrong: Callable[[float, np.random.Generator], float],
) -> None:
    belief = taught(wrong)
    low, high = expected(belief, 20.0, 1000.0)
    assert belief.slope == pytest.approx(0.0, abs=0.02)
    assert low == pytest.approx(high, rel=0.1)


@pytest.mark.parametrize("nothing", [math.nan, 0.0, -5.0])
def test_without_a_prediction_the_mean_is_expected(nothing: float) -> None:
    belief = taught(lambda _n, _: nothing)
    assert expected(belief, nothing) == [belief.mean_tokens]
    assert belief.mean_tokens == pytest.approx(math.exp(5.5), rel=0.35)


def test_infinity_is_no_evidence() -> None:
    belief = taught(lambda _n, _: math.inf)
    assert belief.slope == LengthBelief(1).slope
    assert expected(belief, math.inf) == [belief.mean_tokens]
    constant = taught(lambda _n, _: 200.0)  # slope 0: 0 * log(inf) would be NaN
    assert expected(constant, math.inf) == [constant.mean_tokens]


def test_prefills_and_unfinished_answers_teach_nothing() -> None:
    belief, policy = LengthBelief(LIMITS.max_num_seqs), Scorpio(PROFILE, LIMITS, ScorpioOptions())
    before = belief.mean_tokens
    request = view("r", 10, predicted_output_tokens=50.0)
    for joined, produced in ((True, 0), (False, 0), (False, 7)):
        row = Row(request, 0, joined, 10, 10, produced)
        seen = snapshot(policy, Scene(LIMITS, (row,), ()))
        belief.follow(seen.running, seen.waiting)
    assert belief.mean_tokens == before


def test_before_any_answer_predictions_are_trusted_a_little_more_than_by_half() -> None:
    belief = LengthBelief(4)
    assert belief.slope == 0.6
    low, high = expected(belief, 10.0, 40.0)
    assert high / low == pytest.approx(4.0**0.6)


def test_an_answer_of_one_token_is_an_answer() -> None:
    belief, policy = LengthBelief(LIMITS.max_num_seqs), Scorpio(PROFILE, LIMITS, ScorpioOptions())
    before = belief.mean_tokens
    for name, joined, produced in (("a", True, 0), ("a", False, 1), ("b", True, 0)):
        row = Row(view(name, 10), 0, joined, 10, 10, produced)
        seen = snapshot(policy, Scene(LIMITS, (row,), ()))
        belief.follow(seen.running, seen.waiting)
    assert belief.mean_tokens < before


def preempted(belief: LengthBelief, produced: int) -> None:
    """A request joins, produces so much, and waits to go on."""
    policy = Scorpio(PROFILE, LIMITS, ScorpioOptions())
    request = view("p", 10)
    for rows, waits in (((Row(request, 0, True, 10, 10, 1),), ()),
                        ((Row(request, 0, False, 10, 10, produced),), ()),
                        ((), ((request, True),))):  # fmt: skip
        seen = snapshot(policy, Scene(LIMITS, rows, waits))
        belief.follow(seen.running, seen.waiting)


def test_a_preempted_answer_has_not_ended() -> None:
    belief = LengthBelief(LIMITS.max_num_seqs)
    before = belief.mean_tokens
    preempted(belief, 900)
    assert belief.mean_tokens == before


def alive(belief: LengthBelief, produced: int, **facts: float) -> dict[int, float]:
    """Chance that an answer of so many tokens still runs, by moment."""
    policy = Scorpio(PROFILE, LIMITS, ScorpioOptions())
    most = int(facts.pop("max_tokens", 100_000))
    request = view("a", 10, max_tokens=most, **facts)
    row = Row(request, 0, True, 10, 10, produced)
    seen = snapshot(policy, Scene(LIMITS, (row,), ()))
    belief.follow(seen.running, seen.waiting)
    found = belief.alive(seen.running)[0]
    return dict(zip(MOMENTS.astype(int).tolist(), found.tolist(), strict=True))


def test_chances_to_run_on_are_those_of_the_answers_seen() -> None:
    belief = taught(lambda _n, _: math.nan)  # log-normal around e^5, spread 1
    rng = np.random.default_rng(1)
    lengths = np.exp(rng.normal(5.0, 1.0, 200_000))
    for produced in (0, 100, 400):
        left = lengths[lengths > produced]
        for moment, chance in alive(belief, produced).items():
            assert chance == pytest.approx(float((left > produced + moment).mean()), abs=0.12)


def test_the_longer_an_answer_has_lasted_the_longer_it_will() -> None:
    belief = taught(lambda _n, _: math.nan)
    young, old = alive(belief, 50), alive(belief, 2000)
    assert young[0] == old[0] == 1.0
    assert young[273] < old[273]


def test_exact_predictions_say_when_an_answer_ends() -> None:
    belief = taught(lambda length, _: length)
    chances = alive(belief, 0, predicted_output_tokens=300.0)
    assert chances[182] > 0.95
    assert chances[615] < 0.05


def test_no_answer_passes_its_max_tokens() -> None:
    chances = alive(taught(lambda _n, _: math.nan), 50, max_tokens=100.0)
    assert chances[36] > 0.5
    assert chances[54] == 0.0


def test_chances_follow_an_answer_that_goes_on() -> None:
    """They are kept for some steps; an answer that has grown by half is looked at anew."""
    belief = taught(lambda _n, _: math.nan)
    policy, request = Scorpio(PROFILE, LIMITS, ScorpioOptions()), view("a", 10, max_tokens=100_000)
    found = []
    for joined, produced in ((True, 100), (False, 110), (False, 150)):
        seen = snapshot(policy, Scene(LIMITS, (Row(request, 0, joined, 10, 10, produced),), ()))
        belief.follow(seen.running, seen.waiting)
        found.append(belief.alive(seen.running)[0].tolist())
    assert found[0] == found[1]
    assert found[1] != found[2]


def test_chances_from_the_start_are_kept_until_an_answer_ends() -> None:
    belief = LengthBelief(LIMITS.max_num_seqs)
    request = view("r", 10, predicted_output_tokens=50.0, arrival_s=NOW_S)
    kept = belief.alive_from_start(request)
    assert belief.alive_from_start(request) is kept
    belief._learn(400.0, 50.0)
    learned = belief.alive_from_start(request)
    assert not np.array_equal(learned, kept)
    assert np.array_equal(learned, belief._chances([request], np.zeros(1))[0])


def test_no_answer_is_expected_to_be_longer_than_it_may_be() -> None:
    belief = LengthBelief(4)
    assert expected(belief, 400.0, math.nan, most=8.0) == [8.0, 8.0]
    short = view("short", 10, predicted_output_tokens=math.nan, max_tokens=8)
    assert belief.expected_of(short) == 8.0
    assert belief.expected_of(replace(short, max_tokens=4096)) == 256.0


def test_an_answer_has_no_more_to_come_than_it_may_have() -> None:
    belief, policy = LengthBelief(4), Scorpio(PROFILE, LIMITS, ScorpioOptions())
    most = {"short": 8, "half": 8, "long": 100_000}
    rows = tuple(
        Row(view(name, 10, max_tokens=tokens), slot, True, 10, 10, 4 if name == "half" else 0)
        for slot, (name, tokens) in enumerate(most.items())
    )
    seen = snapshot(policy, Scene(LIMITS, rows, ()))
    belief.follow(seen.running, seen.waiting)
    short, half, long = belief.left(seen.running).tolist()
    assert (short, half) == (8.0, 4.0)
    assert 256.0 < long < 1024.0  # of a log-logistic with this median, the long ones cut off
