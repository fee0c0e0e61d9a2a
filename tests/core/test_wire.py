"""Does a refusal survive the trip through `stop_reason`, and is anything else left alone?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.slo import OnMiss, Slo
from scorpio.core.wire import (
    RejectionNotice,
    decode_rejection,
    decode_slo,
    decode_weight,
    encode_rejection,
    encode_slo,
)

seconds = st.one_of(st.none(), st.floats(0.0, 1e6))


@given(st.sampled_from(RejectReason), seconds, seconds, st.booleans())
def test_round_trip(
    reason: RejectReason, attainable: float | None, retry: float | None, never: bool
) -> None:
    def ms(value: float | None) -> int | None:
        return None if value is None else math.ceil(value * 1000.0)

    notice = decode_rejection(encode_rejection(Rejection("r", reason, attainable, retry, never)))
    assert notice == RejectionNotice(reason, ms(retry), ms(attainable), never)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_values_of_no_use_are_left_out(value: float) -> None:
    text = encode_rejection(Rejection("r", RejectReason.QUEUE_FULL, value, value))
    assert text == "scorpio:queue_full"


@pytest.mark.parametrize(
    "text", [None, 3, "stop", "</s>", "scorpio:", "scorpio:hungry", "scorpio:queue_full?x"]
)
def test_not_ours(text: object) -> None:
    assert decode_rejection(text) is None


numbers = st.one_of(st.just(math.inf), st.floats(1e-9, 1e5))


@given(numbers, numbers, numbers, st.sampled_from(OnMiss), st.floats(1e-3, 1e6), st.text())
def test_an_slo_arrives_as_it_was_told(
    ttft_s: float, tpot_s: float, e2e_s: float, on_miss: OnMiss, value: float, name: str
) -> None:
    slo = Slo(ttft_s, tpot_s, e2e_s, on_miss, value)
    assert decode_slo(encode_slo(slo, name)) == (slo, name)


@pytest.mark.parametrize(
    ("raw", "weight"),
    [("3.0", 3.0), ("1e6", 1e6), ("1e7", 0.0), ("-1", 0.0), ("nan", 0.0), ("inf", 0.0),
     ("", 0.0), ("x", 0.0), (3.0, 0.0), (None, 0.0), ([1], 0.0)],
)  # fmt: skip
def test_a_weight_is_a_number_that_the_server_wrote(raw: object, weight: float) -> None:
    assert decode_weight(raw) == weight
