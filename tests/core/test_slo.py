"""Does a malformed SLO ever get past validation, and is a good one read right?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.slo import (
    MAX_SLO_MS,
    NO_SLO,
    Offer,
    OnMiss,
    Slo,
    SloBook,
    SloClass,
    SloError,
    parse_ms,
    parse_predicted_tokens,
)

CLASSES = {
    "interactive": SloClass("interactive", Slo(0.5, 0.05)),
    "batch": SloClass("batch", Slo(30.0, 0.2, 60.0, OnMiss.WAIT)),
}
NOT_NUMBERS: list[object] = [
    None,
    True,
    False,
    [],
    {},
    [500],
    b"500",
    "",
    "fast",
    "nan",
    "inf",
    "1e999",
]
OUT_OF_RANGE: list[object] = [
    0,
    -5,
    -0.0,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    10**400,
    5e-324,
    1e-7,
    "0",
]


@pytest.mark.parametrize("raw", NOT_NUMBERS + OUT_OF_RANGE)
def test_bad_milliseconds_are_named_errors(raw: object) -> None:
    with pytest.raises(SloError, match="slo_ttft_ms") as caught:
        parse_ms("slo_ttft_ms", raw)
    assert caught.value.field == "slo_ttft_ms"
    assert "must be" in caught.value.message


@pytest.mark.parametrize(("raw", "seconds"), [(500, 0.5), ("500", 0.5), (0.5, 0.0005), (1, 0.001)])
def test_good_milliseconds(raw: object, seconds: float) -> None:
    assert parse_ms("slo_tpot_ms", raw) == seconds


@given(
    st.one_of(
        st.floats(),
        st.integers(),
        st.text(),
        st.booleans(),
        st.none(),
        st.lists(st.integers(), max_size=2),
    )
)
def test_whatever_comes_in_a_usable_slo_or_an_slo_error_comes_out(raw: object) -> None:
    """Invariant 21: nothing reaches arithmetic that is not a sane number."""
    try:
        slo, name = SloBook(CLASSES, NO_SLO).resolve({"slo_ttft_ms": raw, "slo_tpot_ms": raw})
    except SloError:
        return
    assert 1e-6 <= slo.ttft_s <= MAX_SLO_MS / 1000.0
    assert math.isfinite(1.0 / slo.tpot_s)
    assert name == ""


def test_explicit_values_override_the_class_and_the_rest_is_inherited() -> None:
    slo, name = SloBook(CLASSES, NO_SLO).resolve({"slo_class": "batch", "slo_tpot_ms": 80})
    assert slo == Slo(30.0, 0.08, 60.0, OnMiss.WAIT)
    assert name == "batch"


def test_without_a_word_the_default_applies() -> None:
    assert SloBook(CLASSES, Slo(1.0)).resolve({}) == (Slo(1.0), "")


@pytest.mark.parametrize("raw", ["gold", "", 3, None, ["batch"]])
def test_unknown_class_lists_the_valid_ones(raw: object) -> None:
    with pytest.raises(SloError, match="batch, interactive"):
        SloBook(CLASSES, NO_SLO).resolve({"slo_class": raw})


def test_unknown_class_when_none_are_configured() -> None:
    with pytest.raises(SloError, match="none are configured"):
        SloBook({}, NO_SLO).resolve({"slo_class": "batch"})


@pytest.mark.parametrize("choice", list(OnMiss))
def test_on_miss_overrides_the_class(choice: OnMiss) -> None:
    slo, _ = SloBook(CLASSES, NO_SLO).resolve({"slo_class": "batch", "slo_on_miss": choice.value})
    assert slo.on_miss is choice


@pytest.mark.parametrize("raw", ["REJECT", "", 1, ["wait"], {}])
def test_bad_on_miss_names_the_choices(raw: object) -> None:
    with pytest.raises(SloError, match="reject, degrade, wait"):
        SloBook(CLASSES, NO_SLO).resolve({"slo_on_miss": raw})


@pytest.mark.parametrize("raw", [True, "many", 0, -3, math.nan, math.inf, 10**400, []])
def test_bad_prediction_is_an_error(raw: object) -> None:
    with pytest.raises(SloError, match="predicted_output_tokens"):
        parse_predicted_tokens({"predicted_output_tokens": raw})


@pytest.mark.parametrize(
    ("xargs", "tokens"),
    [({}, None), ({"predicted_output_tokens": "12"}, 12.0), ({"predicted_output_tokens": 1}, 1.0)],
)
def test_prediction(xargs: dict[str, object], tokens: float | None) -> None:
    assert parse_predicted_tokens(xargs) == tokens


def test_value_is_the_operators_word() -> None:
    """It comes with the class, whatever numbers go with it; no key of a client sets it."""
    classes = {"gold": SloClass("gold", Slo(0.5, value=4.0))}
    claims = {"value": 9, "slo_value": 9, "slo_tpot_ms": 80}
    assert SloBook(classes, NO_SLO).resolve({"slo_class": "gold", **claims})[0].value == 4.0
    assert SloBook(classes, NO_SLO).resolve(claims)[0].value == 1.0
    assert (
        SloBook(classes, Slo(1.0, value=3.0)).resolve(claims)[0].value == 3.0
    )  # the default class


@pytest.mark.parametrize("field", ["ttft_s", "tpot_s", "e2e_s", "value"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_slo_refuses_non_positive_objectives(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Slo(**{field: value})  # type: ignore[arg-type]


def test_any_is_true_with_one_finite_objective() -> None:
    assert not NO_SLO.any
    assert Slo(ttft_s=1.0).any
    assert Slo(tpot_s=1.0).any
    assert Slo(e2e_s=1.0).any


def test_one_that_asks_for_more_than_is_offered_is_told_what_is() -> None:
    offer = Offer(0.25, 0.03)
    offer.check(Slo(0.25, 0.03))
    offer.check(Slo())
    for slo, field, least in (
        (Slo(0.249), "slo_ttft_ms", "250"),
        (Slo(1.0, 0.029), "slo_tpot_ms", "30"),
        (Slo(1.0, 1.0, 0.2), "slo_e2el_ms", "250"),
    ):
        with pytest.raises(SloError, match=f"{field}.*this server offers {least} ms at best"):
            offer.check(slo)
