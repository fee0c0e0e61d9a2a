"""Does an interval cover another period of the same traffic, and never say more than it saw?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workloads.results.traffic import share_interval, traffic_interval


def test_all_good_is_no_proof_of_perfection() -> None:
    found = traffic_interval([[1.0] * 20] * 5)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(20 / (20 + stats.norm.ppf(0.975) ** 2))
    assert (found.runs, found.values) == (5, 100)


def test_runs_that_scatter_more_than_chance_widen_it() -> None:
    shares = [0.80, 0.95, 0.90, 0.99, 0.86]
    runs = [[1.0] * round(200 * s) + [0.0] * round(200 * (1 - s)) for s in shares]
    found = traffic_interval(runs)
    half = stats.t.ppf(0.975, 4) * np.std(shares, ddof=1)
    assert found.mean == pytest.approx(0.9)
    assert found.low == pytest.approx(0.9 - half)
    assert found.high == 1.0
    assert found.low < share_interval(0.9, 200)[0]


def test_it_is_of_one_period_and_does_not_shrink_with_the_runs() -> None:
    few = traffic_interval([[1.0, 1.0, 1.0, 0.0] * 25] * 3)
    many = traffic_interval([[1.0, 1.0, 1.0, 0.0] * 25] * 30)
    assert many.low == pytest.approx(few.low)


@pytest.mark.parametrize("runs", [1, 5])
def test_it_covers_the_truth_as_often_as_it_says(runs: int) -> None:
    """Where requests have nothing to do with each other and the truth is known."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        found = traffic_interval(
            [(rng.random(150) < 0.9).astype(float).tolist() for _ in range(runs)]
        )
        covered += found.low <= 0.9 <= found.high
    assert covered >= 186  # 95 % of 200, less chance


def test_runs_without_such_requests_do_not_count() -> None:
    assert traffic_interval([[], [1.0, 0.0]]) == traffic_interval([[1.0, 0.0]])
    with pytest.raises(ValueError, match="at least one request"):
        traffic_interval([[], []])
