"""Is the chunk the largest that fits, and never one token more?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.latency import StepModel
from scorpio.core.step_fill import StepFill

A100 = StepModel(0.0116, 3e-5, 5.3e-5, 96.0, 1.8e-9, 2.8e-9, 8e-8)
LINE = StepModel(0.01, 1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0)
FREE = StepModel(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_by_hand_on_a_straight_line() -> None:
    # 10 ms + 20 decodes * 0.1 ms = 12 ms; 8.05 ms are left, 80 tokens of 0.1 ms.
    fill = StepFill(LINE, 0.02005, 2048, 20, 0.0)
    assert fill.time_s == pytest.approx(0.012)
    assert fill.fits(500) == 80
    assert fill.fits(50) == 50
    fill.add(50)
    assert (fill.tokens, fill.prefill_tokens) == (70, 50)
    assert fill.fits(500) == 30


def test_no_time_left_is_no_chunk() -> None:
    assert StepFill(LINE, 0.012, 2048, 20, 0.0).fits(5) == 0
    assert StepFill(LINE, -1.0, 2048, 20, 0.0).fits(5) == 0


def test_without_a_limit_or_a_price_the_tokens_decide() -> None:
    assert StepFill(A100, math.inf, 2048, 48, 1e5).fits(9000) == 2000
    assert StepFill(FREE, 0.0, 2048, 48, 1e5).fits(9000) == 2000
    assert StepFill(A100, math.inf, 40, 48, 1e5).fits(9000) == 0


@given(
    limit_s=st.floats(0.0, 0.5),
    decodes=st.integers(0, 256),
    first=st.integers(0, 300),
    prefix=st.integers(0, 30_000),
    square_s=st.sampled_from([0.0, 1.8e-9]),
)
def test_it_fits_and_one_more_would_not(
    limit_s: float, decodes: int, first: int, prefix: int, square_s: float
) -> None:
    model = StepModel(0.0116, 3e-5, 5.3e-5, 96.0, square_s, 2.8e-9, 8e-8)
    fill = StepFill(model, limit_s, 10**6, decodes, decodes * 1000.0)
    fill.add(first)
    n = fill.fits(8000, prefix)

    def time_s(chunk: int) -> float:
        tokens, squares = first + chunk, float(first**2 + chunk**2)
        return model.step_s(decodes, decodes * 1000.0, tokens, squares, float(chunk * prefix))

    assert n == 0 or time_s(n) <= limit_s + 1e-9
    assert n == 8000 or time_s(n + 1) > limit_s - 1e-9
    before_s = fill.time_s
    fill.add(n, prefix)
    assert fill.time_s >= before_s
    assert fill.time_s == pytest.approx(time_s(n))


def test_tokens_that_cost_nothing_below_the_knee() -> None:
    """By hand: 10 free ones, then 1 ms each."""
    model = StepModel(0.010, 0.0, 0.001, 10.0, 0.0, 0.0, 0.0)
    assert StepFill(model, 0.060, 1000, 0, 0.0).fits(100) == 60
    assert StepFill(model, 0.0101, 1000, 0, 0.0).fits(100) == 10
