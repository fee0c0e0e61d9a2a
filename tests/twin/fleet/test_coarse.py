"""Does the coarse model count what is warm, what is paid for and what is kept?"""

from __future__ import annotations

import numpy as np
import pytest

from scorpio.core.routing.autoscale import AutoscaleOptions
from scorpio.twin.fleet.coarse import CoarseOptions, Curve, Seen, curve_of, run_coarse, smoothed
from scorpio.twin.fleet.scalers import QueueLength, enough, fixed, hindsight, promises

# all is kept up to 1 for each replica, half at 2
CURVE = Curve(
    (1, 4),
    np.array([0.0, 1.0, 2.0]),
    np.array([[1.0, 0.99, 0.5], [1.0, 1.0, 0.5]]),
    np.array([[0.0, 10.0, 40.0], [0.0, 10.0, 40.0]]),
)
OPTIONS = CoarseOptions(10.0, 30.0, 100.0, 50.0, 8)


def test_a_curve_is_read_between_loads_and_sizes() -> None:
    assert CURVE(np.array([0.5, 1.0, 1.5]), 1) == pytest.approx([0.995, 0.99, 0.745])
    assert float(CURVE(np.array(2.0), 2)) == pytest.approx(0.995)  # halfway by the logarithm
    assert float(CURVE(np.array(8.0), 8)) == 1.0  # beyond the sizes: as the largest
    assert float(CURVE(np.array(4.0), 1)) == pytest.approx(0.25)  # beyond the loads: no more in all
    assert float(CURVE.requests(np.array(2.0), 2)) == pytest.approx(20.0)


def test_chance_does_not_make_a_curve_rise() -> None:
    made = curve_of(
        {3: [(1.0, 0.9, 5.0), (0.5, 0.96, 2.0), (1.5, 0.94, 9.0)], 1: [(1.0, 0.8, 5.0)]}
    )
    assert made.replicas == (1, 3)
    assert (np.diff(made.kept, axis=1) <= 1e-12).all()
    assert (np.diff(made.kept, axis=0) >= 0).all()
    assert float(made(np.array(4.5), 3)) == pytest.approx(0.92)


def test_what_starts_is_paid_for_and_serves_when_warm() -> None:
    load = np.full(60, 3.0)
    run = run_coarse(load, CURVE, lambda seen: 4, OPTIONS, 1)
    ordered = 3  # the first look is at 30 s
    warm = ordered + 10
    assert run.ready[:warm].tolist() == [1.0] * warm
    assert (run.ready[warm:] == 4).all()
    assert (run.paid[:ordered] == 1).all()
    assert (run.paid[ordered:] == 4).all()
    assert run.kept[warm - 1] < 0.5 < 0.99 < run.kept[warm]


def test_what_goes_drains_and_is_paid_for_until_then() -> None:
    run = run_coarse(np.full(30, 1.0), CURVE, fixed(2), OPTIONS, 4)
    assert run.ready[3] == 2
    assert run.paid[3:8].tolist() == [4.0] * 5
    assert (run.paid[8:] == 2).all()


def test_what_starts_goes_before_what_serves() -> None:
    looks = iter([4, 1] + [1] * 20)
    run = run_coarse(np.full(40, 0.5), CURVE, lambda seen: next(looks), OPTIONS, 2)
    assert run.paid[3] == 4
    assert run.ready[6] == 1
    assert run.paid[6] == 2  # one drains; the two that started are gone at once
    assert run.ready.max() == 2


def test_a_day_that_is_full_is_full() -> None:
    assert smoothed(np.array([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [1.0, 1.5, 2.5, 3.5]
    load = np.array([0.5, 3.0, 100.0])
    assert enough(load, CURVE, 0.99, 8).tolist() == [1.0, 3.0, 8.0]


def test_hindsight_has_them_warm_in_time() -> None:
    load = np.concatenate([np.full(30, 0.9), np.full(30, 5.0)])
    run = run_coarse(load, CURVE, hindsight(load, CURVE, 0.97, 8, 13), OPTIONS, 1)
    assert run.kept.min() >= 0.97
    assert run.paid[:10].max() == 1


def seen(in_flight: float, ready: int, now_s: float = 0.0, starting: int = 0) -> Seen:
    return Seen(now_s, 0, 1.0, in_flight, ready, starting)


def test_the_queue_rule_is_kubernetes_own() -> None:
    rule = QueueLength.of(10.0, 16)
    assert rule(seen(45.0, 2)) == 5  # ceil(45 / 10)
    assert rule(seen(21.9, 2, 15.0)) == 2  # within a tenth
    assert rule(seen(150.0, 2, 30.0)) == 6  # four more at most, or twice as many
    assert rule(seen(10.0, 6, 100.0)) == 6  # more was wanted within 300 s
    assert rule(seen(10.0, 6, 500.0)) == 1
    with pytest.raises(ValueError, match="target must be > 0"):
        QueueLength.of(0.0, 4)


def test_ours_follows_a_day() -> None:
    at = np.arange(8640) / 8640
    load = 2.5 - 2.0 * np.cos(2 * np.pi * at)
    scaler = promises(AutoscaleOptions(0.97, 100.0, max_replicas=8), CURVE)
    run = run_coarse(load, CURVE, scaler, OPTIONS, 1)
    assert np.average(run.kept, weights=load) >= 0.97
    assert run.paid.mean() < 0.7 * run.paid.max()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tick_s": 0.0}, "tick_s and every_s"),
        ({"every_s": 5.0}, "tick_s and every_s"),
        ({"warm_up_s": -1.0}, "warm_up_s and drain_s"),
        ({"max_replicas": 0}, "max_replicas must be"),
    ],
)
def test_wrong_options_are_told(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CoarseOptions(**wrong)  # type: ignore[arg-type]


def test_a_curve_has_one_shape() -> None:
    with pytest.raises(ValueError, match="shape"):
        Curve((1,), np.array([0.0, 1.0]), np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="must rise"):
        Curve((1,), np.array([1.0, 1.0]), np.ones((1, 2)), np.ones((1, 2)))
