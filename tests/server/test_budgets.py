"""Is each class kept as often as its target says, over the last minutes and hour?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.budget_window import PERIOD_S, WINDOWS_S, BudgetWindow, Counted, burn
from scorpio.server.budgets import counted
from scorpio.server.merged_status import merged
from tests.server.keyed import Keyed

TARGETS = "[classes.chat]\nttft_ms = 500\ntarget = 0.9\n[classes.free]\n"


def counts(good: int, total: int) -> dict[str, Counted]:
    return {"chat": Counted(good, total)}


def test_a_window_counts_what_came_in_it() -> None:
    window = BudgetWindow()
    for second in range(0, 4000, 10):
        window.look(float(second), counts(second, second * 2))
    now = counts(4000, 8000)
    assert window.lately(4000.0, now, "chat", 300.0) == Counted(300, 600)
    assert window.lately(4000.0, now, "chat", 3600.0) == Counted(3600, 7200)
    assert window.lately(9000.0, now, "chat", 300.0) == Counted(10, 20)  # none was sampled since
    assert window.lately(4000.0, now, "other", 300.0) == Counted(0, 0)


def test_a_young_server_counts_since_its_first_look() -> None:
    window = BudgetWindow()
    assert window.lately(5.0, counts(1, 2), "chat", 300.0) == Counted(1, 2)
    window.look(5.0, counts(1, 2))
    assert window.lately(6.0, counts(3, 5), "chat", 3600.0) == Counted(2, 3)


def test_memory_is_bounded_and_looks_that_come_early_count_for_nothing() -> None:
    window = BudgetWindow()
    for tick in range(20_000):
        window.look(tick * 0.5, counts(tick, tick))
    assert len(window._samples) == max(WINDOWS_S.values()) / PERIOD_S + 1


def test_an_engine_that_begins_anew_is_no_negative_number() -> None:
    window = BudgetWindow()
    window.look(0.0, counts(90, 100))
    assert window.lately(20.0, counts(3, 4), "chat", 300.0) == Counted(3, 4)


@pytest.mark.parametrize(
    ("good", "total", "rate"), [(9, 10, 1.0), (10, 10, 0.0), (0, 10, 10.0), (0, 0, 0.0)]
)
def test_burn(good: int, total: int, rate: float) -> None:
    assert burn(Counted(good, total), 0.9) == pytest.approx(rate)


def test_what_counts() -> None:
    entry = {"good": 7, "outcomes": {"finished": 8, "rejected": 2, "failed": 1, "aborted": 50}}
    assert counted({"chat": entry}) == {"chat": Counted(7, 11)}
    odds: list[object] = [None, 5, [], {"chat": None}, {"chat": {"good": "7", "outcomes": [1]}}]
    for odd in odds:
        assert sum(value.all for value in counted(odd).values()) == 0


async def test_it_is_in_the_status_and_in_the_metrics(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, TARGETS)
    entry = {"good": 7, "outcomes": {"finished": 8, "rejected": 2}}
    channel.write_status(keyed.run_dir, {"by_class": {"chat": entry, "free": entry}})
    budgets: Any = (await keyed.call("GET", "/scorpio/status")).json()["error_budgets"]
    lately = {"good": 7, "all": 10, "attainment": 0.7, "burn": 3.0}
    assert budgets == {"chat": {"target": 0.9, "5m": lately, "1h": lately}}
    page = (await keyed.call("GET", "/metrics")).body.decode()
    for series in (
        'scorpio_good_requests_total{engine="0",model_name="tiny",slo_class="chat"} 7.0',
        'scorpio_good_requests_total{engine="0",model_name="tiny",slo_class="none"} 0.0',
        'scorpio_slo_target_ratio{engine="0",model_name="tiny",slo_class="chat"} 0.9',
        'scorpio_error_budget_burn_ratio{engine="0",model_name="tiny",slo_class="chat",'
        'window="1h"} 3.0',
    ):
        assert series in page
    assert 'scorpio_slo_target_ratio{engine="0",model_name="tiny",slo_class="free"}' not in page


def test_of_several_replicas_the_worst_counts() -> None:
    one = {"chat": {"target": 0.9, "5m": {"good": 1, "all": 2, "attainment": 0.5, "burn": 5.0}}}
    two = {"chat": {"target": 0.9, "5m": {"good": 3, "all": 3, "attainment": 1.0, "burn": 0.0}}}
    together = {"good": 4, "all": 5, "attainment": 0.5, "burn": 5.0}
    assert merged([one, two]) == {"chat": {"target": 0.9, "5m": together}}
