"""Are derived facts of a request computed from what it said on arrival?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.request import RequestView
from scorpio.core.slo import NO_SLO, Slo


def view(slo: Slo = NO_SLO, predicted: float = math.nan) -> RequestView:
    return RequestView("r", 1, 100.0, 10, 50, slo, predicted_output_tokens=predicted)


def test_deadline_is_absolute() -> None:
    assert view(Slo(ttft_s=0.5)).deadline_s == 100.5
    assert view().deadline_s == math.inf


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [(7.0, 7), (50.0, 50), (51.0, 50), (math.inf, 50), (math.nan, 50), (0.0, 50), (-3.0, 50)],
)
def test_an_unusable_prediction_is_the_upper_bound(predicted: float, expected: float) -> None:
    """Invariant 23."""
    assert view(predicted=predicted).expected_output_tokens == expected
