"""Is the KV that answers will need at their peak forecast as it comes?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.arrays import FloatArray
from scorpio.core.kv_forecast import MOMENTS, KvForecast

NOT_SHARED = 0.0


def certain(to_go: FloatArray) -> FloatArray:
    """Chances of answers whose lengths are known, [B, M]."""
    alive: FloatArray = (to_go[:, None] > MOMENTS).astype(np.float64)
    return alive


def simulated_peak(context: FloatArray, to_go: FloatArray) -> float:
    """Step by step, what all of them hold."""
    steps = np.arange(int(to_go.max()) + 1)
    running = to_go[:, None] > steps
    held: FloatArray = ((context[:, None] + steps) * running).sum(axis=0)
    return float(held.max())


def test_moments_begin_now_and_reach_as_far_as_answers_last() -> None:
    assert MOMENTS[0] == 0.0
    assert (np.diff(MOMENTS) > 0.0).all()
    assert 2048.0 < MOMENTS[-1] < 8192.0


def test_one_answer_of_known_length_is_held_until_it_ends() -> None:
    forecast = KvForecast(np.array([100.0]), certain(np.array([40.0])), NOT_SHARED)
    assert forecast.peak_tokens() == 100.0 + 36.0  # the last moment at which it runs


@pytest.mark.parametrize("seed", range(20))
def test_known_lengths_give_the_simulated_peak_between_two_moments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    context, to_go = rng.uniform(10.0, 3000.0, 40), rng.integers(1, 2000, 40).astype(np.float64)
    peak = simulated_peak(context, to_go)
    assert KvForecast(context, certain(to_go), NOT_SHARED).peak_tokens() <= peak + 1e-6
    assert KvForecast(context, certain(to_go), NOT_SHARED).peak_tokens() >= 0.95 * peak


def test_the_variance_is_that_of_coins_that_are_tossed() -> None:
    rng = np.random.default_rng(0)
    context, chance = rng.uniform(10.0, 3000.0, 60), rng.uniform(0.0, 1.0, 60)
    alive = np.repeat(chance[:, None], len(MOMENTS), axis=1)
    tossed = rng.uniform(size=(20_000, 60)) < chance
    held = tossed @ (context + MOMENTS[-1])  # with equal chances the last moment holds most
    wanted = held.mean() + 1.5 * held.std()
    assert KvForecast(context, alive, NOT_SHARED).peak_tokens() == pytest.approx(wanted, rel=0.01)


def test_what_is_shared_counts_once() -> None:
    context, alive = np.array([500.0, 500.0]), certain(np.array([1.0, 1.0]))
    assert KvForecast(context, alive, 300.0).peak_tokens() == 700.0


def test_an_added_answer_is_one_of_them() -> None:
    rng = np.random.default_rng(1)
    context, alive = rng.uniform(10.0, 900.0, 9), np.sort(rng.uniform(size=(9, len(MOMENTS))))
    whole = KvForecast(context, alive, NOT_SHARED)
    grown = KvForecast(context[:8], alive[:8], NOT_SHARED)
    alone = grown.peak_tokens()
    assert grown.peak_with(float(context[8]), alive[8]) == pytest.approx(whole.peak_tokens())
    assert grown.peak_tokens() == alone  # asking changes nothing
    grown.add(float(context[8]), alive[8])
    assert grown.peak_tokens() == pytest.approx(whole.peak_tokens())


def test_an_empty_batch_needs_nothing() -> None:
    nothing = KvForecast(np.empty(0), np.empty((0, len(MOMENTS))), NOT_SHARED)
    assert nothing.peak_tokens() == 0.0
    assert nothing.peak_with(100.0, certain(np.array([20.0]))[0]) == 116.0


def test_kv_is_free_when_those_that_hold_it_have_ended() -> None:
    forecast = KvForecast(np.array([600.0, 300.0]), certain(np.array([100.0, 1.0])), NOT_SHARED)
    need = np.array([50.0, 200.0, 319.0, 320.0, 1000.0, 1001.0])
    steps = forecast.steps_until(need, 1000.0)
    assert steps[0] == 0.0  # 900 of 1,000 are in use
    assert steps[1] == 16.0  # the shorter one has ended; the longer one grows to 681
    assert steps[2] == 16.0
    assert steps[3] == 122.0  # the longer one runs at moment 81, and no more at 122
    assert steps[4] == 122.0
    assert steps[5] == np.inf


def test_what_is_free_for_a_moment_only_is_not_free() -> None:
    """One ends at once, and the others grow into its room."""
    context, to_go = np.array([100.0, 400.0, 400.0]), np.array([1.0, 100.0, 100.0])
    forecast = KvForecast(context, certain(to_go), NOT_SHARED)
    assert forecast.steps_until(np.array([100.0]), 1000.0).tolist() == [122.0]
