"""Are the estimators the formulas they name, and are bad coefficients refused by name?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.latency import (
    DecodeModel,
    LatencyProfile,
    PrefillModel,
    StepModel,
    decode_from_step,
    prefill_from_step,
)

DECODE = DecodeModel(a_s=1e-6, b_s=1e-4, c_s=2e-6, d_s=0.010)
PREFILL = PrefillModel(floor_s=0.020, knee_tokens=100.0, per_token_s=1e-4)
STEP = StepModel(0.010, 1e-5, 5e-5, 96.0, 1e-9, 2e-9, 1e-7)
PROFILE = LatencyProfile(DECODE, PREFILL, STEP, "a test")
coefficient = st.floats(0.0, 1.0)


def test_decode_step_by_hand() -> None:
    # a*B*L = 1e-6*4*500 = 2 ms; b*B = 0.4 ms; c*L = 1 ms; d = 10 ms
    assert DECODE.step_s(4, 500) == pytest.approx(0.0134)


def test_tpot_by_hand() -> None:
    # 0.5*(1e-6*2 + 2e-6)*(2*100 + 50) = 0.5 ms; b*B = 0.2 ms; d = 10 ms
    assert DECODE.tpot_s(2.0, 100.0, 50.0) == pytest.approx(0.0107)


@given(st.integers(1, 200), st.integers(1, 5000), st.integers(0, 300))
def test_tpot_is_the_mean_step_over_the_output(batch: int, prompt: int, output: int) -> None:
    """Context grows from Lin to Lin + out: the mean over the line is its midpoint."""
    steps = [DECODE.step_s(batch, prompt + k) for k in range(output + 1)]
    assert DECODE.tpot_s(float(batch), prompt, output) == pytest.approx(sum(steps) / len(steps))


def test_tpot_of_columns_is_tpot_of_each() -> None:
    batch, prompt, output = np.array([1.0, 8.0]), np.array([10.0, 900.0]), np.array([0.0, 50.0])
    each = [DECODE.tpot_s(*row) for row in zip(*map(np.ndarray.tolist, (batch, prompt, output)))]  # noqa: B905
    assert DECODE.tpot_s(batch, prompt, output).tolist() == each


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(1, 0.02), (100, 0.02), (101, 0.0201), (600, 0.07)]
)
def test_prefill_is_flat_then_linear(tokens: int, seconds: float) -> None:
    assert PREFILL.prefill_s(tokens) == pytest.approx(seconds)
    assert PREFILL.prefill_each_s(np.array([float(tokens)]))[0] == PREFILL.prefill_s(tokens)


def test_tokens_within_by_hand() -> None:
    # 19 ms: less than the floor, so none. 20 ms: the 100 of the knee. 70 ms: 100 + 50 ms/0.1 ms
    times = np.array([-math.inf, 0.019, 0.020, 0.070, math.inf])
    expected = [-math.inf, -math.inf, 100.0, 600.0, math.inf]
    assert PREFILL.tokens_within(times).tolist() == pytest.approx(expected)
    flat = PrefillModel(0.02, 0.0, 0.0)
    assert flat.tokens_within(times).tolist() == [-math.inf, -math.inf, *[math.inf] * 3]


@given(coefficient, st.floats(0, 1000), st.floats(1e-6, 1.0), st.floats(0, 1e6))
def test_tokens_within_inverts_prefill(
    floor: float, knee: float, slope: float, tokens: float
) -> None:
    model = PrefillModel(floor, knee, slope)
    (most,) = model.tokens_within(np.array([model.prefill_s(tokens)]))
    assert most >= tokens * (1 - 1e-9) - 1e-9
    assert model.prefill_s(most) == pytest.approx(model.prefill_s(tokens))


def test_mixed_step_by_hand() -> None:
    # T = 6 + 100: 10 ms + 1e-5*96 + 5e-5*10 + 1e-9*1e4 + 2e-9*5000 + 1e-7*3000
    expected = 0.010 + 0.00096 + 0.0005 + 0.00001 + 0.00001 + 0.0003
    assert STEP.step_s(6, 3000, 100, 100.0**2, 100.0 * 50) == pytest.approx(expected)


@given(st.integers(1, 96), st.integers(1, 4000))
def test_decode_view_of_a_mixed_model_agrees_below_the_knee(batch: int, context: int) -> None:
    decode = decode_from_step(STEP)
    assert decode.step_s(batch, context) == pytest.approx(STEP.step_s(batch, batch * context))


@given(st.integers(96, 10_000))
def test_prefill_view_of_a_mixed_model_agrees_above_the_knee(tokens: int) -> None:
    assert prefill_from_step(STEP).prefill_s(tokens) == pytest.approx(STEP.step_s(0, 0, tokens))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e-9, "0.1", None, 10**400])
@pytest.mark.parametrize("field", ["a_s", "b_s", "c_s", "d_s"])
def test_bad_coefficient_is_refused_by_name(field: str, bad: object) -> None:
    good = {"a_s": 0.0, "b_s": 0.0, "c_s": 0.0, "d_s": 0.0}
    with pytest.raises(ValueError, match=rf"DecodeModel\.{field} must be finite"):
        DecodeModel(**(good | {field: bad}))  # type: ignore[arg-type]


def test_profile_survives_its_dict() -> None:
    assert LatencyProfile.from_dict(PROFILE.to_dict()) == PROFILE


@pytest.mark.parametrize("part", ["decode", "prefill", "step"])
def test_profile_names_what_is_missing_or_unknown(part: str) -> None:
    raw = PROFILE.to_dict()
    with pytest.raises(ValueError, match=f"`{part}` is missing"):
        LatencyProfile.from_dict({k: v for k, v in raw.items() if k != part})
    table = raw[part]
    assert isinstance(table, dict)
    with pytest.raises(ValueError, match=f"`{part}` has missing or unknown fields: .*typo_s"):
        LatencyProfile.from_dict(raw | {part: table | {"typo_s": 1.0}})
    gone = next(iter(table))
    with pytest.raises(ValueError, match=f"`{part}` has missing or unknown fields: .*{gone}"):
        LatencyProfile.from_dict(raw | {part: {k: v for k, v in table.items() if k != gone}})
