"""Is every request counted once, under its class, with what it was promised and forecast?"""

from __future__ import annotations

import math
from typing import Any

import pytest

from scorpio.channel import SLACK_BOUNDS_S
from scorpio.core.plan import FinalState, Forecast, RejectReason
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.engine.record.outcomes import Outcomes

VIEW = RequestView("r", 1, 100.0, 50, 8, Slo(0.5, 0.1, 2.0), "chat")


def outcomes() -> Outcomes:
    return Outcomes("none")


def test_nothing_has_happened() -> None:
    assert outcomes().total(FinalState.FINISHED) == 0
    assert outcomes().state()["by_class"] == {}


@pytest.mark.parametrize(
    ("first_s", "end_s", "tokens", "broken"),
    [
        (100.5, 101.0, 6, []),
        (100.51, 101.0, 6, ["ttft"]),
        (100.5, 101.01, 6, ["tpot"]),  # 0.51 s for five intervals of 0.1
        (100.5, 102.01, 40, ["e2e"]),
        (math.nan, 100.4, 1, []),  # its only token came with its end
        (math.nan, 100.6, 1, ["ttft"]),
    ],
)
def test_promises_that_were_broken(
    first_s: float, end_s: float, tokens: int, broken: list[str]
) -> None:
    found = outcomes()
    found.ended(VIEW, FinalState.FINISHED, first_s, end_s, tokens)
    chat: Any = found.state()["by_class"]["chat"]  # type: ignore[index]
    assert chat["violations"] == {kind: int(kind in broken) for kind in ("ttft", "tpot", "e2e")}
    assert chat["outcomes"]["finished"] == 1
    assert chat["good"] == int(not broken)


def test_one_that_misses_all_is_one_that_is_not_good() -> None:
    found = outcomes()
    found.ended(VIEW, FinalState.FINISHED, 101.0, 109.0, 6)
    found.ended(VIEW, FinalState.FINISHED, 100.1, 100.2, 6)
    found.ended(VIEW, FinalState.FAILED, 100.1, 100.2, 6)
    chat: Any = found.state()["by_class"]["chat"]  # type: ignore[index]
    assert (sum(chat["violations"].values()), chat["good"]) == (3, 1)


def test_the_slack_of_first_tokens_is_counted_by_bounds() -> None:
    found = outcomes()
    found.ended(VIEW, FinalState.FINISHED, math.nan, 100.0, 1)  # half a second to spare
    found.ended(VIEW, FinalState.FINISHED, math.nan, 1e6, 1)
    chat: Any = found.state()["by_class"]["chat"]  # type: ignore[index]
    assert len(chat["ttft_slack"]) == len(SLACK_BOUNDS_S) + 1
    assert sum(chat["ttft_slack"]) == 2
    assert chat["ttft_slack"][sum(bound < 0.5 for bound in SLACK_BOUNDS_S)] == 1
    assert chat["ttft_slack"][0] == 1


def test_what_was_forecast_is_compared_with_what_came() -> None:
    found = outcomes()
    for forecast in (Forecast("r", 0.39, 0.11), Forecast("r", 0.41, 0.09)):
        found.ended(VIEW, FinalState.FINISHED, 100.4, 100.9, 6, forecast)
    found.ended(VIEW, FinalState.FINISHED, 100.4, 100.9, 1, Forecast("r", 0.4, 0.1))
    found.ended(VIEW, FinalState.FINISHED, 100.4, 100.9, 6, Forecast("r", math.inf, math.nan))
    chat: Any = found.state()["by_class"]["chat"]  # type: ignore[index]
    assert chat["forecasts"] == {"ttft": 3, "tpot": 2}
    assert chat["forecasts_exceeded"]["ttft"] >= 1
    assert chat["forecasts_exceeded"]["tpot"] == 1


def test_one_that_is_told_no_was_not_aborted() -> None:
    found = outcomes()
    nameless = RequestView("n", 2, 100.0, 50, 8, Slo())
    for view in (VIEW, nameless):
        found.ended(view, FinalState.ABORTED, math.nan, 100.1, 0)
    found.refused(VIEW, RejectReason.QUEUE_FULL)
    assert found.total(FinalState.ABORTED) == 1
    assert found.total(FinalState.REJECTED) == 1
    state: Any = found.state()
    assert state["finished_by_state"] == {"rejected": 1, "aborted": 1}
    assert state["by_class"]["chat"]["rejections"] == {"queue_full": 1}
    assert state["by_class"]["none"]["rejections"] == {}
    assert state["by_class"]["chat"]["violations"] == {"ttft": 0, "tpot": 0, "e2e": 0}
