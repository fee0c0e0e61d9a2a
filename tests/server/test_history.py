"""Are windows, rates and budgets of the page those of the counts, and is what is kept bounded?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scorpio.server.page.content import ERROR_BUDGET
from scorpio.server.page.verdict import FAST, SLOW, judged
from scorpio.server.state.history import COARSE, FINE, PERIOD_S, History


class Counted:
    """A history whose engine is driven by hand: so many good, bad and refused requests."""

    def __init__(self) -> None:
        self.good = self.late = self.refused = 0
        self.at_s = 1000.0
        self.waiting: float = 0
        self.history = History(lambda: [self.state()], lambda: self.at_s)
        self.history.take()

    def state(self) -> Mapping[str, Any]:
        chat = {
            "outcomes": {"finished": self.good + self.late, "rejected": self.refused},
            "good": self.good,
            "rejections": {"queue_full": self.refused},
        }
        return {"by_class": {"chat": chat}, "waiting": self.waiting}

    def passes(self, seconds: float, good: int = 0, late: int = 0, refused: int = 0) -> None:
        """So many in each period."""
        for _ in range(round(seconds / PERIOD_S)):
            self.at_s += PERIOD_S
            self.good += good
            self.late += late
            self.refused += refused
            self.history.take()


def test_windows_hold_what_ended_in_them() -> None:
    world = Counted()
    world.passes(2 * 3600, good=1)
    world.passes(600, late=1)
    world.passes(300, refused=2)
    found = world.history.windows("chat")
    assert (found["5m"]["good"], found["5m"]["rejected"], found["5m"]["queue_full"]) == (
        *(0, 120),
        120,
    )
    assert found["1h"]["good"] == pytest.approx((3600 - 900) / 5, abs=13)  # a sample a minute
    assert found["1h"]["finished"] - found["1h"]["good"] == 120
    assert found["6h"] == found["all"] == {**found["all"], "good": 1440, "rejected": 120}


def test_what_is_kept_is_bounded() -> None:
    world = Counted()
    world.passes(8 * 3600, good=1)
    assert len(world.history._fine) == FINE + 1
    assert len(world.history._coarse) == COARSE + 1
    assert world.history.windows("chat")["6h"]["good"] == pytest.approx(6 * 720, abs=13)
    assert all(len(curve) == FINE for curve in world.history.curves().values())


def test_rates_are_of_the_last_minute_and_curves_begin_with_the_newest() -> None:
    world = Counted()
    world.passes(300, good=5)
    world.waiting = 7
    world.passes(60, good=10)
    assert world.history.good_per_s("chat") == 2.0
    curves = world.history.curves()
    assert curves["good"][:12] == [2.0] * 12
    assert curves["good"][12:] == [1.0] * 60
    assert curves["waiting"] == [7.0] * 12 + [0.0] * 60
    of_class = world.history.curve_of("chat")
    assert of_class["good"][:5] == [30, 30, 30, 30, 15]
    assert of_class["good"] == of_class["counted"]


def test_a_young_history_speaks_of_its_own_time() -> None:
    world = Counted()
    assert world.history.good_per_s("chat") == 0.0
    world.passes(10, good=5)
    assert world.history.good_per_s("chat") == 1.0
    assert world.history.windows("chat")["6h"]["good"] == 10
    assert world.history.windows("unheard of")["6h"]["good"] == 0


def test_an_engine_that_starts_anew_begins_a_new_history() -> None:
    world = Counted()
    world.passes(300, good=3)
    world.good = 0
    world.passes(10, good=1)
    assert world.history.windows("chat")["5m"]["good"] <= 2
    assert min(world.history.curves()["good"]) >= 0.0


def content_of(world: Counted) -> dict[str, Any]:
    """As far as it is judged."""
    history = world.history
    return {
        "server": {"state": "ok"},
        "classes": {
            "chat": {
                "allowed": ERROR_BUDGET,
                "windows": history.windows("chat"),
                "good_per_s": 0.0,
            }
        },
        "health": {"policy": "scorpio"},
    }


@pytest.mark.parametrize(
    ("before", "lately", "budget"),
    [
        ({"good": 100}, {"good": 100}, "holds"),
        ({"good": 100}, {"good": 80, "refused": 20}, "burns now"),  # 20 times, but for 5 minutes
        ({"good": 84, "late": 16}, {"good": 84, "late": 16}, "burns fast"),
        ({"good": 84, "refused": 16}, {"good": 100}, "burns slowly"),  # it is over
        ({"good": 93, "refused": 7}, {"good": 93, "refused": 7}, "burns slowly"),
        ({"good": 95, "refused": 5}, {"good": 95, "late": 5}, "over budget"),  # 5 times too fast
    ],
)
def test_budgets_are_judged_by_the_windows_of_the_alerts(
    before: Any, lately: Any, budget: str
) -> None:
    world = Counted()
    world.passes(7 * 3600, **before)
    world.passes(300, **lately)
    found = judged(content_of(world))
    chat = found["classes"]["chat"]
    assert chat["budget"] == budget
    told = [problem["what"] for problem in found["problems"] if "class chat" in problem["what"]]
    assert len(told) == budget.startswith("burns")
    grades = {problem["grade"] for problem in found["problems"]}
    assert ("serious" in grades) == (budget == "burns fast")


def test_the_numbers_of_the_alerts_are_the_page_s() -> None:
    alerts = (Path(__file__).parents[2] / "deploy/compose/alerts.yml").read_text()
    for name, factor, windows in (("Fast", FAST, "1h 5m"), ("Slowly", SLOW, "6h 1h")):
        long, short = windows.split()
        bound = f"> {factor:g} * {ERROR_BUDGET}"
        assert (
            f"- alert: ScorpioErrorBudgetBurns{name}\n        expr: >-\n"
            f"          scorpio:bad:ratio_rate{long} {bound} and"
            f" scorpio:bad:ratio_rate{short} {bound}\n"
        ) in alerts


def test_nothing_ended_is_no_attainment() -> None:
    found = judged(content_of(Counted()))
    chat = found["classes"]["chat"]
    assert chat["attainment"] == dict.fromkeys(("5m", "1h", "6h", "all"))
    assert (chat["budget"], found["attainment"]["5m"]) == ("unused", None)
