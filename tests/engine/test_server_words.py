"""Does the engine believe what the server says of a request, and only where it should?"""

from __future__ import annotations

import math

import pytest

from scorpio.core.request import RequestView
from scorpio.core.slo import XARG_CLASS, XARG_ON_MISS, XARG_QUOTED, XARG_SLO, XARG_WEIGHT, OnMiss
from tests.engine.driver import Engine

CLASSES = {"chat": {"ttft_ms": 500}}
TOLD = "0.25 inf 9.0 4.0 reject a new class"


def view_of(followed: bool, **xargs: object) -> RequestView:
    scorpio = {"classes": CLASSES} | ({"slo_config": "slo.toml"} if followed else {})
    engine = Engine(scorpio=scorpio)
    engine.add("a", **xargs)
    return engine.scorpio._tracker.live["a"].view


def test_classes_that_came_after_its_start() -> None:
    view = view_of(True, **{XARG_SLO: TOLD, XARG_CLASS: "unknown here"})
    assert (view.slo.ttft_s, view.slo.tpot_s, view.slo.e2e_s) == (0.25, math.inf, 9.0)
    assert (view.slo.value, view.slo.on_miss, view.slo_class) == (4.0, OnMiss.REJECT, "a new class")


def test_what_may_not_be_refused_stays_so() -> None:
    assert view_of(True, **{XARG_SLO: TOLD, XARG_ON_MISS: "wait"}).slo.on_miss is OnMiss.WAIT


@pytest.mark.parametrize("followed", [True, False])
def test_without_such_a_word_its_own_classes_count(followed: bool) -> None:
    view = view_of(followed, **{XARG_CLASS: "chat"})
    assert (view.slo.ttft_s, view.slo_class) == (0.5, "chat")
    assert view_of(followed, **{XARG_CLASS: "chat", XARG_SLO: "nonsense"}).slo.ttft_s == 0.5


def test_without_a_file_no_client_can_say_it_either() -> None:
    view = view_of(False, **{XARG_SLO: TOLD, XARG_CLASS: "chat"})
    assert (view.slo.ttft_s, view.slo.value, view.slo_class) == (0.5, 1.0, "chat")


def test_weights() -> None:
    assert view_of(False, **{XARG_WEIGHT: "3.0"}).weight == 3.0
    assert view_of(False).weight == 0.0


def test_only_the_word_itself_says_that_it_was_quoted() -> None:
    assert view_of(False, **{XARG_QUOTED: "1"}).quoted
    for said in ("", "0", "true", 1, True, None):
        assert not view_of(False, **{XARG_QUOTED: said}).quoted
