"""Does a refusal survive the trip through `stop_reason`, and is anything else left alone?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorpio.core.plan import Rejection, RejectReason
from scorpio.core.wire import RejectionNotice, decode_rejection, encode_rejection

seconds = st.one_of(st.none(), st.floats(0.0, 1e6))


@given(st.sampled_from(RejectReason), seconds, seconds)
def test_round_trip(reason: RejectReason, attainable: float | None, retry: float | None) -> None:
    def ms(value: float | None) -> int | None:
        return None if value is None else math.ceil(value * 1000.0)

    notice = decode_rejection(encode_rejection(Rejection("r", reason, attainable, retry)))
    assert notice == RejectionNotice(reason, ms(retry), ms(attainable))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_values_of_no_use_are_left_out(value: float) -> None:
    text = encode_rejection(Rejection("r", RejectReason.QUEUE_FULL, value, value))
    assert text == "scorpio:queue_full"


@pytest.mark.parametrize(
    "text", [None, 3, "stop", "</s>", "scorpio:", "scorpio:hungry", "scorpio:queue_full?x"]
)
def test_not_ours(text: object) -> None:
    assert decode_rejection(text) is None
