"""Are forecasters of known quality told apart? A calibrated, a biased and a changing one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.workloads.test_records import record, rejected
from workloads.results.forecast_quality import (
    LEAST,
    brier,
    check,
    distance_from_uniform,
    pits,
    reliability,
    wilson,
)
from workloads.results.records import Outcome, RequestRecord


def forecaster(
    bias: float = 1.0, late_spread: float = 0.2, n: int = 1500, seed: int = 0, swing: float = 1.0
) -> list[RequestRecord]:
    """One request a second, outcomes 20 % (lognormal) about `forecast / bias`; those of the second
    half scatter by `late_spread`, and those of the even hundreds take `swing` times as long."""
    rng = np.random.default_rng(seed)
    records = []
    for index in range(n):
        spread = 0.2 if index < n / 2 else late_spread
        ttft_s, tpot_s = rng.uniform(0.1, 2.0), rng.uniform(0.02, 0.06)
        shift = np.log(swing) if index // 100 % 2 else 0.0
        first_s = index + ttft_s * rng.lognormal(shift, spread)
        last_s = first_s + 10 * tpot_s * rng.lognormal(0.0, spread)
        records.append(
            record(
                index=index,
                send_s=float(index),
                scheduled_send_s=float(index),
                ttft_slo_s=1.0,
                tpot_slo_s=0.04,
                first_token_s=first_s,
                last_token_s=last_s,
                ended_s=last_s,
                predicted_ttft_s=ttft_s * bias,
                predicted_tpot_s=tpot_s * bias,
            )
        )
    return records


@pytest.mark.parametrize("kind", ["ttft", "tpot"])
def test_a_calibrated_forecaster_has_a_level_pit(kind: str) -> None:
    checked = check(forecaster(), kind)  # type: ignore[arg-type]
    values = pits(checked)
    assert 1500 - LEAST - 10 < len(values) <= 1500 - LEAST  # the others were sent too early
    assert distance_from_uniform(values) < 0.05
    counts, _ = np.histogram(values, 10, (0.0, 1.0))
    assert counts.min() > 0.7 * counts.mean()


@pytest.mark.parametrize(("bias", "side"), [(0.8, 1.0), (1.25, 0.0)])
def test_a_biased_one_piles_up_on_one_side(bias: float, side: float) -> None:
    """However long it goes on: a constant bias is not learned away."""
    values = pits(check(forecaster(bias), "ttft"))
    assert distance_from_uniform(values) > 0.25
    assert abs(values[len(values) // 2 :].mean() - side) < 0.3


def test_a_spread_that_grows_shows_at_both_ends() -> None:
    late = pits(check(forecaster(late_spread=0.6, n=600), "tpot"))[-300:][:100]
    counts, _ = np.histogram(late, 5, (0.0, 1.0))
    assert counts[0] + counts[-1] > 1.5 * counts[1:4].sum() * 2 / 3


@pytest.mark.parametrize("bias", [1.0, 0.7])
def test_chances_come_true_even_of_a_biased_one_whose_bias_is_known(bias: float) -> None:
    for found in reliability(check(forecaster(bias), "ttft")):
        assert found.low - 0.05 <= found.chance <= found.high + 0.05


def test_an_error_that_swings_cannot_be_known() -> None:
    steady, swinging = check(forecaster(), "ttft"), check(forecaster(swing=4.0), "ttft")
    gaps = [b.chance - b.kept for b in reliability(swinging) if b.requests > 30]
    assert max(gaps) > 0.15
    good, bad = brier(steady), brier(swinging)
    assert good is not None
    assert bad is not None
    assert good < 0.8 * bad


def test_every_bin_is_counted_once() -> None:
    checked = check(forecaster(n=300), "ttft")
    found = reliability(checked)
    assert sum(b.requests for b in found) == sum(c.chance is not None for c in checked)
    assert all(b.low <= b.kept <= b.high for b in found)
    assert [b.chance for b in found] == sorted(b.chance for b in found)


def test_only_what_was_known_when_a_request_was_sent_counts() -> None:
    late = [
        replace(r, send_s=0.0, first_token_s=2.0 + r.index, last_token_s=9.0 + r.index)
        for r in forecaster(n=200)
    ]
    assert not len(pits(check(late, "ttft")))
    assert brier(check(late, "ttft")) is None
    assert len(check(late, "ttft")) == 200  # their ratios are known all the same


def test_what_has_no_outcome_or_no_forecast_is_left_out() -> None:
    told = record(predicted_ttft_s=0.2, predicted_tpot_s=0.05)
    one_token = replace(told, output_tokens=1, last_token_s=told.first_token_s)
    free = replace(told, ttft_slo_s=float("inf"))
    others = [
        record(),
        replace(told, predicted_ttft_s=0.0),
        replace(told, outcome=Outcome.FAILED),
        rejected(predicted_ttft_s=3.0),
    ]
    assert [c.ratio for c in check([told, *others], "ttft")] == [pytest.approx(2.0)]
    assert [c.ratio for c in check([told, one_token], "tpot")] == [pytest.approx(1.0)]
    (checked,) = check([free], "ttft")
    assert (checked.chance, checked.kept) == (None, True)
    assert check([], "ttft") == []


def test_wilson_by_hand() -> None:
    # n = 10, all hits: (1 + 0.192) / 1.384 +- 1.96 * sqrt(0.0096) / 1.384 = 0.722 .. 1
    low, high = wilson(10, 10)
    assert (low, high) == pytest.approx((0.722, 1.0), abs=0.001)
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=0.001)
