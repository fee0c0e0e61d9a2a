"""Do the arrival processes have the rate, the burstiness and the shape they promise?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import UnknownName, WorkloadError
from workloads.synthetic.arrivals import (
    PROCESSES,
    FloatArray,
    burst,
    constant,
    day,
    gamma,
    generate,
    pauses,
    poisson,
    ramp,
)

MAKERS: dict[str, Callable[..., FloatArray]] = {
    "poisson": lambda seed, **kw: poisson(3.0, seed, **kw),
    "gamma": lambda seed, **kw: gamma(3.0, 4.0, seed, **kw),
    "constant": lambda seed, **kw: constant(3.0, seed, **kw),
    "burst": lambda seed, **kw: burst(3.0, 10.0, 5.0, 2.0, seed, **kw),
    "ramp": lambda seed, **kw: ramp(1.0, 9.0, 20.0, seed, **kw),
    "pauses": lambda seed, **kw: pauses(9.0, 2.0, 5.0, 8.0, seed, **kw),
    "day": lambda seed, **kw: day(1.0, 9.0, 40.0, seed, **kw),
}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), n=st.integers(0, 300))
def test_times_ascend_and_repeat(name: str, seed: int, n: int) -> None:
    times = MAKERS[name](seed, n=n)
    assert len(times) == n
    assert np.isfinite(times).all()
    assert (times >= 0).all()
    assert (np.diff(times) >= 0).all()
    assert (times == MAKERS[name](seed, n=n)).all()
    assert (times == MAKERS[name](seed, n=n + 50)[:n]).all()  # a longer run starts the same


@pytest.mark.parametrize("name", MAKERS)
def test_a_duration_takes_all_before_it(name: str) -> None:
    by_time = MAKERS[name](7, duration_s=1000.0)
    assert by_time[-1] < 1000.0
    by_count = MAKERS[name](7, n=len(by_time) + 1)
    # the draws are made in chunks, which may differ in the last digit of the running sum
    assert by_time == pytest.approx(by_count[:-1])
    assert by_count[-1] >= 1000.0


def test_constant_by_hand() -> None:
    assert constant(4.0, n=3).tolist() == [0.0, 0.25, 0.5]
    assert constant(4.0, duration_s=0.75).tolist() == [0.0, 0.25, 0.5]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 5.0])
def test_gamma_has_its_rate_and_cv(cv: float) -> None:
    gaps = np.diff(gamma(8.0, cv, seed=1, n=400_000))
    assert 1.0 / gaps.mean() == pytest.approx(8.0, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_poisson_is_gamma_with_cv_one() -> None:
    assert (poisson(2.0, 5, n=100) == gamma(2.0, 1.0, 5, n=100)).all()


def test_burst_floods_its_window_only() -> None:
    counts = np.zeros(3)
    for seed in range(200):
        times = burst(5.0, 10.0, 20.0, 4.0, seed, duration_s=40.0)
        counts += np.histogram(times, [0.0, 20.0, 24.0, 40.0])[0]
    # expected 100, 200 and 80 each run; four standard errors of the sum
    for count, expected in zip(counts, (20_000, 40_000, 16_000), strict=True):
        assert abs(count - expected) < 4.0 * math.sqrt(expected)


def test_burst_with_factor_one_is_poisson() -> None:
    assert burst(3.0, 1.0, 2.0, 5.0, 9, n=50) == pytest.approx(poisson(3.0, 9, n=50))


@pytest.mark.parametrize(("start", "end"), [(2.0, 10.0), (10.0, 2.0)])
def test_ramp_changes_its_rate_linearly(start: float, end: float) -> None:
    counts = np.zeros(3)
    for seed in range(200):
        times = ramp(start, end, 20.0, seed, duration_s=30.0)
        counts += np.histogram(times, [0.0, 10.0, 20.0, 30.0])[0]
    middle = 0.5 * (start + end)
    expected = [5.0 * (start + middle), 5.0 * (middle + end), 10.0 * end]
    for count, one_run in zip(counts, expected, strict=True):
        assert abs(count - 200 * one_run) < 4.0 * math.sqrt(200 * one_run)


def test_a_flat_ramp_is_poisson() -> None:
    assert ramp(3.0, 3.0, 5.0, 9, n=50) == pytest.approx(poisson(3.0, 9, n=50))


def test_pauses_stand_between_bursts_of_their_rate() -> None:
    gaps = np.diff(pauses(10.0, 1.0, 20.0, 60.0, seed=3, n=200_000))
    long = gaps[gaps > 5.0]  # one pause in twelve is shorter, a gap within a burst never as long
    assert long.mean() == pytest.approx(65.0, rel=0.1)
    assert gaps[gaps <= 5.0].mean() == pytest.approx(0.1, rel=0.05)
    assert len(long) == pytest.approx(200_000 / 200 * math.exp(-5.0 / 60.0), rel=0.1)
    # of an interrupted Poisson process: 1 + 2 r b (p / (b + p))^2
    cv = math.sqrt(1.0 + 2.0 * 10.0 * 20.0 * (60.0 / 80.0) ** 2)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


def test_bursts_that_are_too_short_are_refused_and_not_drawn_for_ever() -> None:
    with pytest.raises(WorkloadError, match="burst_s is too short: more than 10,000,000 bursts"):
        pauses(1.0, 1.0, 1e-9, 1.0, seed=0, n=1000)
    many = pauses(1.0, 1.0, 1e-3, 1e-3, seed=0, n=1000)  # a million bursts in a thousand seconds
    assert many[-1] == pytest.approx(2000.0, rel=0.1)
    assert many[:100] == pytest.approx(pauses(1.0, 1.0, 1e-3, 1e-3, seed=0, n=100))


def test_pauses_of_no_length_are_gamma() -> None:
    assert pauses(3.0, 4.0, 5.0, 1e-12, 9, n=50) == pytest.approx(gamma(3.0, 4.0, 9, n=50))


def test_a_day_swings_between_its_rates() -> None:
    counts = np.zeros(4)
    for seed in range(200):
        counts += np.histogram(day(2.0, 10.0, 40.0, seed, duration_s=80.0), np.arange(0, 81, 20))[0]
    for count in counts:  # twenty seconds up, twenty down, twice
        assert abs(count - 200 * 20 * 6.0) < 4.0 * math.sqrt(200 * 20 * 6.0)
    noon = np.concatenate([day(2.0, 10.0, 40.0, seed, duration_s=22.0) for seed in range(200)])
    middle = ((noon > 18.0) & (noon < 22.0)).sum()
    expected = 200 * (4.0 * 6.0 + 4.0 * 4.0 * math.sin(0.1 * math.pi) / (0.1 * math.pi))
    assert abs(middle - expected) < 4.0 * math.sqrt(expected)


def test_a_flat_day_is_poisson() -> None:
    assert day(3.0, 3.0, 5.0, 9, n=50) == pytest.approx(poisson(3.0, 9, n=50))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_parameters_out_of_range_are_named(bad: float) -> None:
    for call, name in (
        (lambda: poisson(bad, 0, n=1), "rate_rps"),
        (lambda: gamma(1.0, bad, 0, n=1), "cv"),
        (lambda: constant(bad, n=1), "rate_rps"),
        (lambda: burst(1.0, bad, 0.0, 1.0, 0, n=1), "multiplier"),
        (lambda: burst(1.0, 2.0, 0.0, bad, 0, n=1), "length_s"),
        (lambda: ramp(1.0, 2.0, bad, 0, n=1), "ramp_s"),
        (lambda: pauses(1.0, 1.0, bad, 1.0, 0, n=1), "burst_s"),
        (lambda: pauses(1.0, 1.0, 1.0, bad, 0, n=1), "pause_s"),
        (lambda: day(bad, 1.0, 1.0, 0, n=1), "low_rps"),
        (lambda: day(1.0, 1.0, bad, 0, n=1), "day_s"),
        (lambda: poisson(1.0, 0, duration_s=bad), "duration_s"),
    ):
        with pytest.raises(WorkloadError, match=name):
            call()
    with pytest.raises(WorkloadError, match="start_s"):
        burst(1.0, 2.0, -1.0, 1.0, 0, n=1)


@pytest.mark.parametrize("limits", [{}, {"n": 3, "duration_s": 4.0}])
def test_exactly_one_limit(limits: dict[str, float]) -> None:
    with pytest.raises(WorkloadError, match="either n or duration_s"):
        poisson(1.0, 0, **limits)  # type: ignore[arg-type]
    with pytest.raises(WorkloadError, match="either n or duration_s"):
        constant(1.0, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [-1, 10**9])
def test_n_is_bounded(n: int) -> None:
    with pytest.raises(WorkloadError, match="n must be"):
        poisson(1.0, 0, n=n)


def test_generate_by_name() -> None:
    made = generate("gamma", {"rate_rps": 3.0, "cv": 4.0}, seed=2, n=10)
    assert (made == gamma(3.0, 4.0, 2, n=10)).all()
    with pytest.raises(UnknownName, match=r"unknown arrival process 'x'; valid: burst, constant"):
        generate("x", {}, 0, 1)
    with pytest.raises(WorkloadError, match=r"'gamma' takes cv, rate_rps; got rate_rps, speed"):
        generate("gamma", {"rate_rps": 1.0, "speed": 1.0}, 0, 1)
    assert set(PROCESSES) == set(MAKERS)
