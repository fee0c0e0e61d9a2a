"""Is there always an answer, from the best rung that can be trusted, whatever the model does?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.length.coverage import NEEDED, CoverageMonitor
from predictors.length.histogram import HistogramTable
from predictors.length.ladder import (
    FAILURES_ALLOWED,
    UNKNOWN_MAX_TOKENS,
    LengthLadder,
    LengthPrediction,
    Source,
)
from predictors.length.quantiles import LEVELS
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray

ASK = LengthRequest("hello", 3, max_tokens=500, model="m", tenant="t", system="s")
NORMAL = np.array([-1.2816, -0.6745, 0.0, 0.6745, 1.2816, 1.6449])


class Says:
    """A model that says what a function says."""

    def __init__(self, what: Callable[[int], object]) -> None:
        self.what, self.calls = what, 0

    def quantiles_z(self, requests: Sequence[LengthRequest]) -> FloatArray:
        self.calls += 1
        return self.what(len(requests))  # type: ignore[return-value]


def lognormal(median: float) -> Says:
    return Says(lambda n: np.tile(math.log1p(median) + 0.5 * NORMAL, (n, 1)))


def teach(ladder: LengthLadder, lengths: Sequence[int], ask: LengthRequest = ASK) -> None:
    for length in lengths:
        ladder.observe(ask, ladder.predict(ask), length)


def draws(median: float, n: int, seed: int = 0) -> list[int]:
    z = np.log1p(median) + 0.5 * np.random.default_rng(seed).normal(size=n)
    return [min(int(tokens), 500) for tokens in np.expm1(z)]


def test_cold_start_climbs_as_answers_come() -> None:
    ladder = LengthLadder()
    first = ladder.predict(ASK)
    assert first.source is Source.MAX_TOKENS
    assert first.mean_tokens == 500
    assert ladder.predict(LengthRequest("hi", 1)).mean_tokens == UNKNOWN_MAX_TOKENS
    teach(ladder, draws(50, 31))
    assert ladder.predict(ASK).source is Source.HISTOGRAM
    other = LengthRequest("hello", 3, max_tokens=500, model="other")
    assert ladder.predict(other).source is Source.GLOBAL
    teach(ladder, draws(50, 300))
    found = ladder.predict(ASK)
    assert found.quantiles_tokens[LEVELS.index(0.5)] == pytest.approx(50, rel=0.2)
    assert found.mean_tokens == pytest.approx(50 * math.exp(0.125), rel=0.25)


def test_the_trained_model_comes_first() -> None:
    ladder = LengthLadder(lognormal(100))
    teach(ladder, draws(100, 500))
    found = ladder.predict(ASK)
    assert found.source is Source.TRAINED
    assert found.quantiles_tokens[2] == pytest.approx(100)
    assert ladder.state()["demotions"] == 0
    assert found.remaining(0) == pytest.approx(100, rel=0.1)
    assert found.remaining(400) > 0
    assert found.remaining(500) == 0


def test_drift_demotes_and_recovery_restores() -> None:
    ladder = LengthLadder(lognormal(100))
    teach(ladder, draws(100, 200))
    teach(ladder, draws(20, 200))  # traffic changed: answers are five times shorter
    assert ladder.state()["demoted"] is True
    found = ladder.predict(ASK)
    assert found.source is Source.HISTOGRAM
    assert found.quantiles_tokens[2] < 60
    teach(ladder, draws(100, 800, seed=1))
    assert ladder.state()["demoted"] is False
    assert ladder.predict(ASK).source is Source.TRAINED
    assert ladder.state()["demotions"] == 1


def raising(n: int) -> object:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    "what",
    [raising, lambda n: None, lambda n: "x", lambda n: np.full((n, 6), np.nan),
     lambda n: np.full((n, 6), np.inf), lambda n: np.zeros((n, 5)), lambda n: np.zeros(0)],
)  # fmt: skip
def test_a_broken_model_never_shows(what: Callable[[int], object]) -> None:
    model = Says(what)
    ladder = LengthLadder(model)
    for _ in range(2 * FAILURES_ALLOWED):
        assert ladder.predict(ASK).source is Source.MAX_TOKENS
    assert model.calls == FAILURES_ALLOWED
    state = ladder.state()
    assert state["broken"] is True
    assert state["failures"] == FAILURES_ALLOWED


Z = st.lists(st.floats(-50, 50), min_size=6, max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    Z,
    st.integers(0, 10**7),
    st.lists(st.integers(-5, 10**8), max_size=80),
    st.integers(0, 10**7),
    st.floats(-1, 2),
)
def test_every_answer_is_within_bounds(
    z: list[float], most: int, lengths: list[int], outlived: int, level: float
) -> None:
    ask = LengthRequest("hello", 3, max_tokens=most)
    ladder = LengthLadder(Says(lambda n: np.tile(z, (n, 1))))
    teach(ladder, lengths, ask)
    for found in (ladder.predict(ask), LengthLadder().predict(ask)):
        assert isinstance(found, LengthPrediction)
        bound = most if most else max(UNKNOWN_MAX_TOKENS, 1 << 20)
        assert 0 <= found.mean_tokens <= bound
        assert list(found.quantiles_tokens) == sorted(found.quantiles_tokens)
        assert found.quantiles_tokens[0] >= 0
        assert found.quantiles_tokens[-1] <= bound
        assert 0 <= found.remaining(outlived, level) <= bound
    state = ladder.state()
    assert set(state) == set(LengthLadder().state())


def test_senseless_outcomes_are_counted_apart() -> None:
    ladder = LengthLadder()
    prediction = ladder.predict(ASK)
    for wrong in (-1, 10**9, float("nan"), None):
        ladder.observe(ASK, prediction, wrong)  # type: ignore[arg-type]
    assert ladder.state()["ignored"] == 4
    assert ladder.state()["observed"] == 0


def test_keys_stay_bounded() -> None:
    ladder = LengthLadder(table=HistogramTable(max_keys=8))
    for i in range(100):
        teach(ladder, [5], LengthRequest("x", 1, tenant=f"t{i}"))
    assert ladder.state()["histograms"] == 8
    assert ladder.state()["histograms_evicted"] == 92


def test_an_answer_cut_at_max_tokens_does_not_count_against_the_model() -> None:
    monitor = CoverageMonitor()
    quantiles = np.array([100.0, 200, 300, 400, 500, 600])
    for _ in range(NEEDED):
        monitor.add(quantiles, 64, 64)
    assert monitor.outcomes == 0
    with pytest.raises(ValueError, match="window"):
        CoverageMonitor(1)


@pytest.mark.parametrize(("off", "demoted"), [(1.0, False), (0.3, True)])
def test_quantiles_at_max_tokens_are_not_judged(off: float, demoted: bool) -> None:
    """Half of the answers run into max_tokens, as a small model's do: what is below it counts."""
    rng, most = np.random.default_rng(3), 512
    spread = np.array([100.0, 250.0, 500.0, 900.0, 1500.0, 2500.0])
    told = np.expm1(np.log1p(np.minimum(off * spread, most)))  # 512 becomes a hair less
    monitor = CoverageMonitor()
    for level in rng.random(400):
        length = round(float(np.interp(level, (0.0, *LEVELS, 1.0), (0.0, *spread, 5000.0))))
        monitor.add(told, min(length, most), most)
    assert monitor.demoted is demoted
    if not demoted:
        assert set(monitor.coverage()) == {"q0.1", "q0.5"}


def test_chance_alone_does_not_demote() -> None:
    ladder = LengthLadder(lognormal(100))
    teach(ladder, draws(100, 3000, seed=7))
    assert ladder.state()["demotions"] == 0
