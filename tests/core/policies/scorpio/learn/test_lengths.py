"""Are length predictions believed as far as they prove right, and no further?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from scorpio.core.policies.scorpio.learn.lengths import LengthBelief
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.policies.scorpio.policy import Scorpio
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, snapshot
from tests.core.policies.scorpio.test_policy import LIMITS, PROFILE, view

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
            belief.follow(snapshot(policy, Scene(LIMITS, (row,), ())).running)
    return belief


def expected(belief: LengthBelief, *predicted: float) -> list[float]:
    return belief.expected(np.array(predicted)).tolist()


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
        belief.follow(snapshot(policy, Scene(limits(), (row,), ())).running)
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
        belief.follow(snapshot(policy, Scene(limits(), (row,), ())).running)
    assert belief.mean_tokens < before
