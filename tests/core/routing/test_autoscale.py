"""Do replicas follow what will come, with no more of them and no more often than promises need?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scorpio.core.arrays import FloatArray
from scorpio.core.demand import Level
from scorpio.core.fluid import LEAST_BEND, served_share
from scorpio.core.routing.autoscale import AutoscaleOptions, Autoscaler
from scorpio.core.routing.carried import FluidKept
from scorpio.core.routing.load_forecast import (
    FEW,
    GUESS,
    ForecastOptions,
    LoadForecast,
)

EVERY_S = 30.0
FLUID = FluidKept({0.05: Level.of(np.ones(10), 1.0), 0.2: Level.of(np.ones(10), 1.0)}, 0.01)


def sharp(load: FloatArray, replicas: int) -> FloatArray:
    """All is kept up to one engine second per second for each replica, and nothing beyond."""
    kept: FloatArray = (np.asarray(load) <= replicas + 1e-9).astype(float)
    return kept


def follow(loads: list[float], kept: object = FLUID, start: int = 1, **options: float) -> list[int]:
    """Replicas after each look, as if every order were obeyed at once."""
    rule = Autoscaler(AutoscaleOptions(every_s=EVERY_S, **options))  # type: ignore[arg-type]
    found, present = [], start
    for number, load in enumerate(loads):
        present = rule.wanted(EVERY_S * number, load, present, kept)  # type: ignore[arg-type]
        found.append(present)
    return found


# -- the share that is kept ------------------------------------------------------------------------


@given(load=st.floats(0.0, 1e9), more=st.floats(1.0, 100.0), replicas=st.integers(1, 4000))
@settings(deadline=None)
def test_more_load_and_fewer_replicas_never_keep_more(
    load: float, more: float, replicas: int
) -> None:
    here = float(FLUID(np.array(load), replicas))
    assert 0.0 <= here <= 1.0
    assert float(FLUID(np.array(load * more), replicas)) <= here + 1e-12
    assert float(FLUID(np.array(load), replicas + 1)) >= here - 1e-12


@pytest.mark.parametrize("load", [0.1, 1.0, 3.0, 50.0])
def test_it_is_the_share_of_sides(load: float) -> None:
    one = FluidKept({0.1: Level.of(np.ones(4), 2.0)}, 0.0)  # room of 1.4 for each replica
    for replicas in (1, 3):
        expected = served_share(load / 1.4 / replicas, LEAST_BEND + replicas)
        assert float(one(np.array(load), replicas)) == pytest.approx(expected)


def test_tight_targets_need_more() -> None:
    loose, tight = (FluidKept({s: Level.of([1.0], 1.0)}, 0.02) for s in (1.0, 0.03))
    assert float(tight(np.array(1.0), 2)) < float(loose(np.array(1.0), 2))
    assert float(FluidKept({}, 0.01)(np.array(1.0), 1)) == 1.0  # nothing has come yet


def test_what_no_replica_can_keep_wants_none() -> None:
    loose, out_of_reach = Level.of([1.0], 1.0), Level.of([1.0], 50.0)
    mixed = FluidKept({0.01: out_of_reach, 0.005: out_of_reach, 0.1: loose}, 0.01)
    alone = FluidKept({0.1: loose}, 0.01)
    assert float(mixed(np.array(2.0), 2)) == float(alone(np.array(2.0), 2))
    assert float(FluidKept({0.01: out_of_reach}, 0.01)(np.array(50.0), 1)) == 1.0


# -- the forecast ----------------------------------------------------------------------------------


def test_at_first_the_guess_is_around_the_level() -> None:
    forecast = LoadForecast(ForecastOptions(100.0))
    forecast.note(0.0, 4.0)
    found = forecast.samples()
    assert found.min() == pytest.approx(4.0 * np.exp(GUESS[1]), rel=0.05)
    assert np.median(found) == pytest.approx(4.0, rel=0.01)


def test_what_is_steady_is_soon_known_to_be() -> None:
    forecast = LoadForecast(ForecastOptions(100.0))
    for tick in range(4 * FEW):
        forecast.note(EVERY_S * tick, 4.0)
    assert forecast.samples() == pytest.approx(np.full(20, 4.0))


def test_what_scatters_keeps_its_scatter() -> None:
    forecast = LoadForecast(ForecastOptions(100.0))
    rng = np.random.default_rng(0)
    for tick in range(2000):
        forecast.note(EVERY_S * tick, float(np.exp(rng.normal(0.0, 0.3))))
    spread = np.log(forecast.samples()).std()
    assert 0.25 < spread < 0.6


def test_a_daily_rise_is_seen_coming() -> None:
    """A load that doubles at the same time each day, from its second day on."""
    forecast = LoadForecast(ForecastOptions(600.0))
    rises = 40_000.0

    def load(at_s: float) -> float:
        return float(np.interp(at_s % 86_400.0, [0, rises, rises + 3600, 80_000], [2, 2, 6, 2]))

    off = []
    for tick in range(3 * 2880):
        now_s = EVERY_S * tick
        forecast.note(now_s, load(now_s))
        if tick > 2 * 2880 and rises < now_s % 86_400.0 < rises + 3000.0:
            off.append(float(np.median(forecast.samples())) / load(now_s + 600.0))
    assert 0.9 < np.mean(off) < 1.1


@example(notes=[(-100.0, 2.0), (0.0, 5e-324)])
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.0, 1e12)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_clock_and_no_load_breaks_it(notes: list[tuple[float, float]]) -> None:
    forecast = LoadForecast(ForecastOptions(100.0))
    for now_s, load in notes:
        forecast.note(now_s, load)
        found = forecast.samples()
        assert found.shape == (20,)
        assert np.isfinite(found).all()
        assert (found >= 0.0).all()


# -- the rule --------------------------------------------------------------------------------------


@given(load=st.floats(0.0, 30.0), more=st.floats(1.0, 5.0))
@settings(max_examples=30, deadline=None)
def test_more_load_never_wants_fewer(load: float, more: float) -> None:
    assert follow([load] * 5)[-1] <= follow([load * more] * 5)[-1]


@given(
    load=st.floats(0.0, 1e6), least=st.integers(1, 5), more=st.integers(0, 9),
    start=st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_bounds_hold(load: float, least: int, more: int, start: int) -> None:
    bounds = {"min_replicas": least, "max_replicas": least + more}
    assert all(least <= n <= least + more for n in follow([load] * 4, start=start, **bounds))


def test_equal_load_never_flaps() -> None:
    found = follow([5.0] * 400)
    ups = [b - a for a, b in pairwise(found)]
    assert max(ups) <= 0  # the first look orders all; what was headroom for the unknown goes again
    assert len(set(found[200:])) == 1
    assert (
        float(FLUID(np.array(5.0), found[-1])) >= 0.97 > float(FLUID(np.array(5.0), found[-1] - 1))
    )


def test_noise_does_not_flap_either() -> None:
    rng = np.random.default_rng(1)
    found = follow([float(x) for x in 5.0 * np.exp(rng.normal(0.0, 0.1, 1000))])
    assert np.abs(np.diff(found[500:])).sum() <= 20


def test_more_is_ordered_at_once_and_fewer_only_after_the_hold() -> None:
    loads = [2.0] * 100 + [8.0] * 100 + [2.0] * 40
    found = follow(loads, sharp, hold_s=300.0)
    assert found[99] == 2
    assert found[102] > 4
    full = found[199]
    held = next(n for n in range(200, 240) if found[n] < full) - 200
    assert held * EVERY_S >= 300.0


def test_a_rule_that_starts_again_takes_none_away_before_it_has_looked_for_the_hold() -> None:
    assert follow([0.0] * 12, sharp, start=8, hold_s=300.0) == [8] * 10 + [1] * 2
    assert follow([0.0, 30.0], sharp, start=8)[1] > 8
    assert follow([0.0], sharp, start=20, max_replicas=12) == [12]


def test_fewer_must_carry_the_load_of_now() -> None:
    """N/(N-1): a forecast of less does not take away what is needed now."""
    rule = Autoscaler(AutoscaleOptions(every_s=EVERY_S, hold_s=0.0))
    for number in range(400):
        rule.wanted(EVERY_S * number, 4.0, 5, sharp)
    assert rule._needed(sharp) == 4
    assert rule.wanted(EVERY_S * 400, 4.0, 5, sharp) == 4
    rule.forecast.level = 4.6  # now is fuller than the future
    assert not rule._carries(sharp, 4)
    assert rule._carries(sharp, 5)


def test_a_longer_warm_up_needs_more_ahead_of_a_rise() -> None:
    loads = [1.0] * 100 + [1.0 + 0.1 * n for n in range(60)]
    quick, slow = (follow(loads, sharp, warm_up_s=s) for s in (10.0, 600.0))
    assert sum(slow[100:]) >= sum(quick[100:])


def test_a_higher_target_never_wants_fewer() -> None:
    rng = np.random.default_rng(2)
    loads = [float(x) for x in 5.0 * np.exp(rng.normal(0.0, 0.2, 200))]
    low, high = (follow(loads, target=target) for target in (0.9, 0.99))
    assert sum(high) > sum(low)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target": 97.0}, r"target must be in \[0.5, 1\), got 97.0"),
        ({"warm_up_s": -1.0}, "warm_up_s must be in"),
        ({"hold_s": float("nan")}, "hold_s must be in"),
        ({"every_s": 0.0}, "every_s must be in"),
        ({"min_replicas": 0}, "1 <= min <= max <= 4096"),
        ({"min_replicas": 3, "max_replicas": 2}, "got 3 and 2"),
    ],
)
def test_wrong_options_are_told(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AutoscaleOptions(**wrong)  # type: ignore[arg-type]


def test_a_horizon_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon_s"):
        ForecastOptions(0.0)
