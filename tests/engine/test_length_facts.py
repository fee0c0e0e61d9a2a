"""Do length predictions reach the policy of a real vLLM request, and only well-formed ones?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from scorpio.core.request import RequestView
from scorpio.core.slo import XARG_PREDICTED, XARG_QUANTILES
from tests.engine.driver import Engine


def view_of(xargs: dict[str, Any]) -> RequestView:
    engine = Engine()
    engine.add("a", **xargs)
    return engine.scorpio._tracker.live["a"].view


def test_predictions_arrive() -> None:
    view = view_of({XARG_PREDICTED: 7.5, XARG_QUANTILES: [2.0, 7.0, 30.0]})
    assert view.predicted_output_tokens == 7.5
    assert view.length_quantiles == (2.0, 7.0, 30.0)


@pytest.mark.parametrize("quantiles", [[3, 2, 1], "x", [1, 2, math.nan]])
def test_malformed_ones_count_as_none(quantiles: object) -> None:
    assert view_of({XARG_QUANTILES: quantiles}).length_quantiles == ()
