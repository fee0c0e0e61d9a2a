"""What is remembered of live requests, and is it forgotten with them?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from scorpio.core.plan import Forecast
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.engine.view.tracker import Tracker
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import Request, RequestFactory


class Started:
    """The part of vLLM's output that says who starts."""

    def __init__(self, *names: str) -> None:
        self.scheduled_new_reqs = [type("New", (), {"req_id": name})() for name in names]


def view(name: str, tenant: str = "") -> RequestView:
    return RequestView(name, 1, 0.0, 10, 8, Slo(1.0), tenant=tenant)


def tracker(*names: str) -> tuple[Any, dict[str, Request]]:
    made, factory = Tracker(4), RequestFactory(EngineSpec())
    for name in names:
        made.arrived(view(name))
    return made, {name: factory.make(name, 0.0, 10, 8, {}) for name in names}


def test_the_first_token_is_noted_once_it_came() -> None:
    made, requests = tracker("a", "b")
    made.scheduled(Started("a"), requests)
    made.outputs_came(1.0)
    assert math.isnan(made.live["a"].first_token_s)
    requests["a"].append_output_token_ids([1])
    requests["b"].append_output_token_ids([1])  # not known to have started
    made.outputs_came(2.0)
    made.outputs_came(3.0)
    assert made.live["a"].first_token_s == 2.0
    assert math.isnan(made.live["b"].first_token_s)
    made.scheduled(Started("a"), requests)  # resumed: listed as new by one of vLLM's runners
    made.outputs_came(4.0)
    assert made.live["a"].first_token_s == 2.0


def test_the_batch_shows_when_the_first_token_came() -> None:
    made, requests = tracker("a")
    request = requests["a"]
    assert math.isnan(made.batch([request]).first_token_s[0])
    made.scheduled(Started("a"), requests)
    request.append_output_token_ids([1])
    made.outputs_came(2.0)
    batch = made.batch([request])
    assert batch.first_token_s.tolist() == [2.0]
    assert batch.joined.tolist() == [False]


def test_accounts_are_counted_while_they_have_requests() -> None:
    made = Tracker(4)
    for name, tenant in (("a", "acme/x"), ("b", "acme/y"), ("c", "other/")):
        made.arrived(view(name, tenant))
    assert made.in_flight == {"acme": 2, "other": 1}
    assert made.ended("a") is not None
    assert made.in_flight == {"acme": 1, "other": 1}
    assert made.ended("a") is None
    made.ended("b")
    assert dict(made.in_flight) == {"other": 1}  # without zeros: no name is kept
    assert made.ids == {"c"}


def test_one_that_ends_before_its_first_token_is_forgotten() -> None:
    made, requests = tracker("a")
    made.scheduled(Started("a"), requests)
    made.ended("a")
    requests["a"].append_output_token_ids([1])
    made.outputs_came(1.0)
    assert made.ids == set()


def test_the_latest_forecast_counts_and_one_for_none_does_not() -> None:
    made, _ = tracker("a")
    first = Forecast("a", 1.0, 0.1)
    made.forecast([first, replace(first, request_id="gone"), replace(first, ttft_s=2.0)])
    assert made.live["a"].forecast == Forecast("a", 2.0, 0.1)
    assert made.ids == {"a"}
